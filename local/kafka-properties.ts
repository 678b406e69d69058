export type Properties = Readonly<Record<string, string>>;

/** A further door to a broker: clients that come by it are sent to `advertised`, where something stands between them and us. */
export interface Listener {
  /** Upper-case letters. */
  readonly name: string;
  readonly port: number;
  readonly advertised: number;
}

export interface KafkaPorts {
  readonly broker: number;
  readonly controller: number;
  readonly listeners?: readonly Listener[];
}

/** A node of several: its number, and the controllers' ports of all, in the order of their numbers. */
export interface ClusterNode {
  readonly id: number;
  readonly controllers: readonly number[];
}

/** One node that is broker and controller, small and quick to come back. */
export function propertiesFor(dataFolder: string, ports: KafkaPorts, wished: Properties, node?: ClusterNode): Properties {
  const { id, controllers } = node ?? { id: 1, controllers: [ports.controller] };
  const further = ports.listeners ?? [];
  const replicas = String(Math.min(3, controllers.length));
  const own = { name: "PLAINTEXT", port: ports.broker, advertised: ports.broker };
  const controller = { name: "CONTROLLER", port: ports.controller, advertised: ports.controller };
  return {
    "process.roles": "broker,controller",
    "node.id": String(id),
    "controller.quorum.voters": controllers.map((port, at) => `${at + 1}@127.0.0.1:${port}`).join(),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    listeners: [own, controller, ...further].map(({ name, port }) => `${name}://127.0.0.1:${port}`).join(),
    "advertised.listeners": [own, ...further].map(({ name, advertised }) => `${name}://127.0.0.1:${advertised}`).join(),
    "listener.security.protocol.map": [own, controller, ...further].map(({ name }) => `${name}:PLAINTEXT`).join(),
    "log.dirs": dataFolder,
    "auto.create.topics.enable": "false",
    "default.replication.factor": replicas,
    "min.insync.replicas": String(Math.ceil(controllers.length / 2)),
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": replicas,
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
