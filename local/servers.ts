import { join } from "node:path";
import { type LocalKafka, type LocalKafkaCluster, startKafka, startKafkaCluster } from "./kafka.ts";
import { type LocalMariadb, startMariadb } from "./mariadb.ts";
import { findMariadb } from "./mariadb-install.ts";
import { freePort } from "./ports.ts";
import { type LocalPostgres, startPostgres } from "./postgres.ts";
import { makeRunFolder } from "./run-folder.ts";

/**
 * Servers that the tests of one process share, each started by the first test that asks for it. They end with the
 * process, however it ends, and their data with them: every child's guard sees to that.
 */
export const testPostgres: () => Promise<LocalPostgres> = once(() => startTestPostgres("main"));

/** A second server, so that a test can kill the primary and the replica apart. */
export const testReplicaPostgres: () => Promise<LocalPostgres> = once(() => startTestPostgres("replica"));

export const testKafka: () => Promise<LocalKafka> = once(() =>
  startKafka({ dir: join(runFolder(), "kafka"), removeWhenOrphaned: true }),
);

/** What cdc and the routers are told of `testFaultKafka`: ports for proxies, and the ports that those lead to. */
export interface FaultKafka {
  readonly kafka: LocalKafka;
  readonly cdc: ProxyPorts;
  readonly router: ProxyPorts;
}

export interface ProxyPorts {
  readonly proxy: number;
  readonly target: number;
}

/** Another Kafka, for tests that do to it what no other test should notice, and to the ways that lead to it. */
export const testFaultKafka: () => Promise<FaultKafka> = once(async () => {
  const advertised = new Map([
    ["CDC", await freePort()],
    ["ROUTER", await freePort()],
  ]);
  const kafka = await startKafka({ dir: join(runFolder(), "fault-kafka"), advertised, removeWhenOrphaned: true });
  const portsOf = (name: string): ProxyPorts => ({
    proxy: advertised.get(name) ?? 0,
    target: kafka.listenerPorts.get(name) ?? 0,
  });
  return { kafka, cdc: portsOf("CDC"), router: portsOf("ROUTER") };
});

/** Of the tests' cluster of three brokers. Whoever asks for it ends it: it is large. */
export const startTestCluster = (): Promise<LocalKafkaCluster> =>
  startKafkaCluster({ dir: join(runFolder(), `cluster-${crypto.randomUUID().slice(0, 8)}`), removeWhenOrphaned: true });

/** Null where MariaDB isn't installed: such tests are skipped. */
export const testMariadb: () => Promise<LocalMariadb | null> = once(async () =>
  findMariadb() === null ? null : startMariadb({ dir: join(runFolder(), "mariadb"), removeWhenOrphaned: true }),
);

function startTestPostgres(name: string): Promise<LocalPostgres> {
  // A killed process loses nothing that it wrote: only a dead machine would, and nobody wants this data then.
  const settings = { fsync: "off", full_page_writes: "off" };
  return startPostgres({ dir: join(runFolder(), name), settings, removeWhenOrphaned: true });
}

/** Starts once; a failed start is tried again by the next test instead of failing all of them with it. */
function once<T>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | null = null;
  return () => {
    started ??= start().catch((error: unknown) => {
      started = null;
      throw error;
    });
    return started;
  };
}

let folder: string | null = null;

function runFolder(): string {
  folder ??= makeRunFolder("runs");
  return folder;
}
