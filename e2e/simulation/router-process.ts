import { readRouterConfig } from "@cascade/shard-router/src/config.ts";
import { consumerOver } from "@cascade/shard-router/src/kafka/kafka-consumer.ts";
import { requestMessages } from "@cascade/shard-router/src/kafka/signals.ts";
import { consumerSettings, type RouterKafka, routingService } from "@cascade/shard-router/src/routing.ts";
import { signalsTopic } from "@cascade/shared/topic";
import { deadLetterLog } from "./dead-letters.ts";
import type { GroupContext } from "./group.ts";
import { connectConsumer } from "./kafkajs-consumer.ts";
import type { Refusals } from "./plan.ts";
import { type Live, quietContext, type Witness } from "./process.ts";
import type { SimulatedReplica } from "./replica.ts";
import type { Host } from "./scheduler.ts";
import { SchemaReader } from "./schema-reader.ts";
import { PREFIX } from "./slot-source.ts";

const CONFIG = readRouterConfig({ KAFKA_BROKERS: "simulated:1", KAFKA_TOPIC_PREFIX: PREFIX, REPLICA_URL: "sqlite:simulated.db" });

export interface RouterWorld extends GroupContext {
  readonly witness: Witness;
  readonly replica: SimulatedReplica;
  readonly batchRows: number;
  readonly refusals: Refusals | null;
}

/** A router: its own routing and consumer, over a simulated kafkajs and a simulated replica. */
export function routerProcess(world: RouterWorld): (host: Host) => Live {
  const { network, kafka, replica, witness, batchRows, refusals } = world;
  const target = { dialect: "sqlite", defaultName: replica.name, engineBytes: 0, open: () => replica.open() } as const;
  const given = refusals && { ROUTER_ON_ERROR: refusals.onError, ROUTER_MAX_HELD_KEYS: refusals.maxHeldKeys };
  return (host) => {
    const shard = replica.part && { ownership: replica.part.ownership };
    const own = { replicaName: replica.name, REPLICA_URL: target, ROUTER_BATCH_ROWS: batchRows, ...given, ...shard };
    const config = { ...CONFIG, ...own };
    const context = quietContext(host, witness);
    const simulated: RouterKafka = {
      openSchemas: async (onNews) => new SchemaReader(kafka, network, onNews),
      openConsumer: async (hooks) => {
        const options = { kafka: { brokers: [], clientId: "", ssl: null, sasl: null, logger: context.logger }, ...hooks };
        return consumerOver({ ...consumerSettings(config), ...options }, connectConsumer(world));
      },
      openDeadLetters: async () => deadLetterLog(world),
      requests: {
        ask: (copies) => network.call("kafka", () => kafka.append(signalsTopic(PREFIX), requestMessages(copies, replica.name))),
      },
    };
    const service = routingService(config, context, simulated);
    return (_host, signal) => service.live(signal);
  };
}
