export type Properties = Readonly<Record<string, string>>;

export interface KafkaPorts {
  readonly broker: number;
  readonly controller: number;
}

/** One node that is broker and controller, small and quick to come back. */
export function propertiesFor(dataFolder: string, ports: KafkaPorts, wished: Properties): Properties {
  return {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@127.0.0.1:${ports.controller}`,
    "controller.listener.names": "CONTROLLER",
    listeners: `PLAINTEXT://127.0.0.1:${ports.broker},CONTROLLER://127.0.0.1:${ports.controller}`,
    "advertised.listeners": `PLAINTEXT://127.0.0.1:${ports.broker}`,
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "log.dirs": dataFolder,
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    // The default of 128 MB comes out of the heap.
    "log.cleaner.dedupe.buffer.size": "4194304",
    // After a crash the broker is let in again when its old session has ended: 9 s by default.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
    ...wished,
  };
}

export function renderProperties(properties: Properties): string {
  return `${Object.entries(properties)
    .map(([name, value]) => `${name}=${value.replaceAll("\\", "\\\\")}`)
    .join("\n")}\n`;
}
