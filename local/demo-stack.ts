import { join } from "node:path";
import { Client } from "pg";
import { schemeOf } from "./canonical-state.ts";
import type { DemoOptions } from "./demo-options.ts";
import { createDemoSchema } from "./demo-schema.ts";
import { type LocalKafka, startKafka } from "./kafka.ts";
import { type LocalPostgres, startPostgres } from "./postgres.ts";
import type { CdcStatus, RouterStatus } from "./service-status.ts";
import { type Service, startCdc, startRouter } from "./stack.ts";

export interface DemoReplica {
  readonly name: string;
  readonly url: string;
  readonly router: Service<RouterStatus>;
}

export interface DemoStack {
  readonly mainUrl: string;
  readonly kafka: LocalKafka;
  readonly cdc: Service<CdcStatus>;
  readonly replicas: readonly DemoReplica[];
}

/** Everything that was started, to be ended in the opposite order. */
export class Started {
  readonly #stops: (() => PromiseLike<void>)[] = [];
  readonly #pending = new Set<Promise<unknown>>();
  #stopping: Promise<void> | null = null;

  /** Waits for what is being started, and keeps it; ends it at once when all is being stopped already. */
  keep<T extends AsyncDisposable>(starting: Promise<T>): Promise<T> {
    const kept = starting.then(async (started) => {
      if (this.#stopping !== null) {
        await started[Symbol.asyncDispose]();
        throw new Error("stopped while it was starting");
      }
      this.#stops.push(() => started[Symbol.asyncDispose]());
      return started;
    });
    this.#pending.add(kept);
    return kept;
  }

  /** Services first, so that they finish what they have in hand with the servers still there. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      for (const stop of this.#stops.reverse()) await stop();
      await Promise.allSettled(this.#pending);
    })();
    return this.#stopping;
  }
}

/** Starts all of it, whatever doesn't need each other at the same time. Resolves when every service is ready. */
export async function startDemoStack(folder: string, options: DemoOptions, started: Started): Promise<DemoStack> {
  const ownData = { removeWhenOrphaned: true };
  const kafka = started.keep(startKafka({ dir: join(folder, "kafka"), ...ownData }));
  const mainUrl = started.keep(startPostgres({ dir: join(folder, "main-db"), ...ownData })).then(prepareMain);
  const replicaUrls = replicasOf(folder, options, started);
  const cdc = Promise.all([kafka, mainUrl]).then(async ([{ brokers }, databaseUrl]) => {
    const service = await started.keep(startCdc({ brokers, databaseUrl, logFile: join(folder, "cdc.log") }));
    await service.ready();
    return service;
  });
  const replicas = replicaUrls.map(async ({ name, url }): Promise<DemoReplica> => {
    const [{ brokers }, replicaUrl] = await Promise.all([kafka, url]);
    const logFile = join(folder, `router-${name.replaceAll(/[^\w-]/g, "_")}.log`);
    const router = await started.keep(startRouter({ brokers, replicaUrl, replicaName: name, logFile }));
    await router.ready();
    return { name, url: replicaUrl, router };
  });
  // All at once, so that the first failure is told and no other one goes unheard.
  const [url, broker, capture, ...routed] = await Promise.all([mainUrl, kafka, cdc, ...replicas]);
  return { mainUrl: url, kafka: broker, cdc: capture, replicas: routed };
}

async function prepareMain(main: LocalPostgres): Promise<string> {
  const url = await main.createDatabase("app");
  const client = new Client({ connectionString: url });
  await client.connect();
  await createDemoSchema(client);
  await client.end();
  return url;
}

interface ReplicaPlan {
  readonly name: string;
  readonly url: Promise<string>;
}

function replicasOf(folder: string, { replicas }: DemoOptions, started: Started): readonly ReplicaPlan[] {
  if (replicas.length === 0) {
    const server = started.keep(startPostgres({ dir: join(folder, "replica"), removeWhenOrphaned: true }));
    const file = join(folder, "replica.db");
    return [
      { name: "postgres", url: server.then((replica) => replica.createDatabase("replica")) },
      { name: "sqlite", url: Promise.resolve(`sqlite://${encodeURI(file)}`) },
    ];
  }
  const names = new Set<string>();
  return replicas.map((url) => {
    let name = schemeOf(url);
    // One name is one replica, whose routers would share its tables.
    for (let count = 2; names.has(name); count += 1) name = `${schemeOf(url)}-${count}`;
    names.add(name);
    return { name, url: Promise.resolve(url) };
  });
}
