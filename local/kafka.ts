import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { formatStorage, javaCommand, writeProperties } from "./kafka-install.ts";
import { kafkaAnswers } from "./kafka-probe.ts";
import type { KafkaPorts, Properties } from "./kafka-properties.ts";
import { freePort, onFreePort } from "./ports.ts";
import { type Server, serverOf } from "./server.ts";

export interface LocalKafka extends Server {
  readonly port: number;
  /** For KAFKA_BROKERS. */
  readonly brokers: string;
  readonly dir: string;
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
}

/** A real Kafka of one node, reachable on the loopback interface alone. Resolves when topics can be made. */
export async function startKafka(options: KafkaOptions): Promise<LocalKafka> {
  const dir = resolve(options.dir);
  mkdirSync(dir, { recursive: true });
  return onFreePort(options.port, async (port) => {
    const ports = { broker: port, controller: await freePort() };
    const properties = (typeof options.properties === "function" ? options.properties(ports) : options.properties) ?? {};
    const propertiesFile = writeProperties(dir, ports, properties);
    await formatStorage(dir, propertiesFile, properties);
    const server = serverOf({
      name: "Kafka",
      command: [...javaCommand(options.javaOptions ?? []), "kafka.Kafka", propertiesFile],
      child: { cwd: dir, logFile: join(dir, "server.log"), ...(options.removeWhenOrphaned ? { removeWhenOrphaned: dir } : {}) },
      answers: () => kafkaAnswers(port),
      stopSignal: "SIGTERM",
    });
    await server.start();
    return { ...server, port, brokers: `127.0.0.1:${port}`, dir };
  });
}
