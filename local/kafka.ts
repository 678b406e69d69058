import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { formatStorage, javaCommand, writeProperties } from "./kafka-install.ts";
import { kafkaAnswers } from "./kafka-probe.ts";
import type { ClusterNode, KafkaPorts, Listener, Properties } from "./kafka-properties.ts";
import { freePort, onFreePort } from "./ports.ts";
import { type Server, serverOf } from "./server.ts";

export interface LocalKafka extends Server {
  readonly port: number;
  /** For KAFKA_BROKERS. */
  readonly brokers: string;
  readonly dir: string;
  /** Where it really listens for those that come by one of the further listeners, by name. */
  readonly listenerPorts: ReadonlyMap<string, number>;
}

export interface KafkaOptions {
  readonly dir: string;
  /** A free one when left out. */
  readonly port?: number;
  /** By the ports, where they are to be named. */
  readonly properties?: Properties | ((ports: KafkaPorts) => Properties);
  /** Further options of the JVM; the last one counts, so `-Xmx1g` replaces ours. */
  readonly javaOptions?: readonly string[];
  /** For brokers whose data nobody wants back: the folder goes with an owner that was killed. */
  readonly removeWhenOrphaned?: boolean;
  /** Further listeners by name (upper-case letters), and the port that is told to whoever comes by one: a proxy's. */
  readonly advertised?: ReadonlyMap<string, number>;
  /** Of a node of several. */
  readonly node?: ClusterNode;
}

/** A real Kafka of one node, reachable on the loopback interface alone. Resolves when topics can be made. */
export async function startKafka(options: KafkaOptions): Promise<LocalKafka> {
  const dir = resolve(options.dir);
  const { node } = options;
  mkdirSync(dir, { recursive: true });
  return onFreePort(options.port, async (port) => {
    const controller = node?.controllers[node.id - 1] ?? (await freePort());
    const listeners: Listener[] = [];
    for (const [name, advertised] of options.advertised ?? []) listeners.push({ name, advertised, port: await freePort() });
    const ports = { broker: port, controller, listeners };
    const properties = (typeof options.properties === "function" ? options.properties(ports) : options.properties) ?? {};
    const propertiesFile = writeProperties(dir, ports, properties, node);
    await formatStorage(dir, propertiesFile, properties, node);
    const server = serverOf({
      name: node === undefined ? "Kafka" : `Kafka's node ${node.id}`,
      command: [...javaCommand(options.javaOptions ?? []), "kafka.Kafka", propertiesFile],
      child: { cwd: dir, logFile: join(dir, "server.log"), ...(options.removeWhenOrphaned ? { removeWhenOrphaned: dir } : {}) },
      answers: () => kafkaAnswers(port),
      stopSignal: "SIGTERM",
    });
    await server.start();
    const listenerPorts = new Map(listeners.map(({ name, port: real }) => [name, real]));
    return { ...server, port, brokers: `127.0.0.1:${port}`, dir, listenerPorts };
  });
}

export interface LocalKafkaCluster extends AsyncDisposable {
  /** For KAFKA_BROKERS: all of them. */
  readonly brokers: string;
  /** In the order of their numbers, which begin with 1. */
  readonly nodes: readonly LocalKafka[];
}

/** Each of several nodes has little to do. */
const CLUSTER_HEAP = "-Xmx160m";

/** A real Kafka of several nodes: topics are on three of them, and two must have a message before it counts. */
export async function startKafkaCluster({
  dir,
  count = 3,
  removeWhenOrphaned = false,
}: {
  readonly dir: string;
  readonly count?: number;
  readonly removeWhenOrphaned?: boolean;
}): Promise<LocalKafkaCluster> {
  const controllers: number[] = [];
  while (controllers.length < count) controllers.push(await freePort());
  const nodes = await Promise.all(
    controllers.map((_, at) =>
      startKafka({
        dir: join(dir, `node-${at + 1}`),
        node: { id: at + 1, controllers },
        javaOptions: [CLUSTER_HEAP],
        removeWhenOrphaned,
      }),
    ),
  );
  return {
    brokers: nodes.map(({ brokers }) => brokers).join(),
    nodes,
    [Symbol.asyncDispose]: async () => void (await Promise.all(nodes.map((node) => node.kill()))),
  };
}
