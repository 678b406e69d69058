import { Database } from "bun:sqlite";
import { createConnection } from "mariadb";
import { Client } from "pg";
import { type Figure, usageOf } from "./figure.ts";
import type { Engine, Trial } from "./lab.ts";

/** Of the lags of all transactions. */
export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

const ROWS_PER_TRANSACTION = 10;
/** The writer looks at the clock this often, and makes up for what it is behind. */
const TICK_MS = 2;
/** A replica is asked this often what it has: the error of a lag. */
const LOOK_MS = 1;
const WARM_UP_MS = 3_000;
const DRAIN_MS = 60_000;

/** A transaction of the paced load: its last row, and when main-db had committed it. */
interface Committed {
  readonly lastId: number;
  readonly atMs: number;
}

/** Rows at a steady rate, for so long: how long each transaction takes from its commit to the replica, which is asked all the time. */
export async function latency(trial: Trial, changesPerSecond: number, seconds: number): Promise<readonly Figure[]> {
  await using pipeline = await trial.pipeline();
  const engines = trial.engines.filter((engine) => engine !== "duckdb"); // whose file nobody reads meanwhile
  const over = new AbortController();
  await using writer = new Writer(trial.mainUrl);
  await writer.connect();
  await writer.run(changesPerSecond, WARM_UP_MS);
  const first = writer.lastId;
  const watching = engines.map((engine) => watch(trial, engine, over.signal));
  const used = usageOf(trial.servers());
  const usedByServices = usageOf(new Map(pipeline.services.map(([who, service]) => [who, service.child.pid])));
  const startedAt = performance.now();
  await writer.run(changesPerSecond, seconds * 1_000);
  const written = (performance.now() - startedAt) / 1_000;
  const servers = used();
  const cpuSeconds = usedByServices();
  await caughtUp(trial, engines, writer.lastId);
  over.abort();
  const seen = await Promise.all(watching);
  await pipeline.stop();
  for (const engine of trial.engines) await trial.verify(engine);
  const measured = writer.committed.filter(({ lastId }) => lastId > first);
  const rows = writer.lastId - first;
  const common = { part: "latency", rows, seconds: written, peakRssBytes: 0, servers } as const;
  const routers = engines.map((engine, at) => {
    const lagMs = percentiles(lagsOf(measured, seen[at] ?? []));
    return { ...common, who: engine, cpuSeconds: cpuSeconds[engine] ?? 0, lagMs };
  });
  return [{ ...common, who: "cdc", cpuSeconds: cpuSeconds["cdc"] ?? 0 }, ...routers];
}

class Writer implements AsyncDisposable {
  readonly #client: Client;
  readonly committed: Committed[] = [];
  lastId = 0;

  constructor(url: string) {
    this.#client = new Client({ connectionString: url });
  }

  connect(): Promise<unknown> {
    return this.#client.connect();
  }

  async run(changesPerSecond: number, forMs: number): Promise<void> {
    const startedAt = performance.now();
    const [idBefore, perMs] = [this.lastId, changesPerSecond / 1_000];
    for (let passed = 0; passed < forMs; passed = performance.now() - startedAt) {
      const due = idBefore + Math.floor(passed * perMs);
      while (this.lastId + ROWS_PER_TRANSACTION <= due) await this.#commit();
      await Bun.sleep(TICK_MS);
    }
  }

  async #commit(): Promise<void> {
    const lastId = this.lastId + ROWS_PER_TRANSACTION;
    await this.#client.query({ name: "paced", text: PACED, values: [this.lastId + 1, lastId] });
    this.committed.push({ lastId, atMs: performance.now() });
    this.lastId = lastId;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end();
  }
}

const PACED = `INSERT INTO bench SELECT id, id % 5000, 'new', (id % 100000) / 100.0, now(), id % 2 = 0, repeat(md5(id::text), 4)
  FROM generate_series($1::bigint, $2::bigint) AS id`;

/** What the replica had, and since when: ids are written in order, so the newest says it all. */
type Seen = readonly Committed[];

async function watch(trial: Trial, engine: Engine, signal: AbortSignal): Promise<Seen> {
  await using newest = await NEWEST[engine](trial.replicaUrl(engine));
  const seen: Committed[] = [];
  while (!signal.aborted) {
    const lastId = await newest.id();
    if (lastId > (seen.at(-1)?.lastId ?? 0)) seen.push({ lastId, atMs: performance.now() });
    await Bun.sleep(LOOK_MS);
  }
  return seen;
}

async function caughtUp(trial: Trial, engines: readonly Engine[], lastId: number): Promise<void> {
  const giveUpAt = performance.now() + DRAIN_MS;
  for (const engine of engines) {
    await using newest = await NEWEST[engine](trial.replicaUrl(engine));
    while ((await newest.id()) < lastId) {
      if (performance.now() > giveUpAt) throw new Error(`${engine} is behind at the end: the rate is not sustained`);
      await Bun.sleep(20);
    }
  }
}

/** Pure. The first look that shows a transaction is when it was visible, at the latest. */
export function lagsOf(committed: readonly Committed[], seen: Seen): readonly number[] {
  const lags: number[] = [];
  let at = 0;
  for (const { lastId, atMs } of committed) {
    while (at < seen.length && (seen[at] as Committed).lastId < lastId) at++;
    const visible = seen[at];
    if (visible === undefined) throw new Error(`what was committed last was never seen: row ${lastId}`);
    lags.push(Math.max(0, visible.atMs - atMs));
  }
  return lags;
}

/** Pure. Nearest rank. */
export function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}

interface Newest extends AsyncDisposable {
  /** 0 while there is none, or no table yet. */
  id(): Promise<number>;
}

const QUERY = "SELECT max(id) AS id FROM bench";

const NEWEST: Readonly<Record<Engine, (url: string) => Promise<Newest>>> = {
  postgres: async (url) => {
    const client = new Client({ connectionString: url });
    await client.connect();
    return {
      id: async () => Number((await client.query({ name: "newest", text: QUERY })).rows[0]?.id ?? 0),
      [Symbol.asyncDispose]: () => client.end(),
    };
  },
  mariadb: async (url) => {
    const connection = await createConnection(url);
    return {
      id: async () => Number((await connection.query(QUERY))[0]?.id ?? 0),
      [Symbol.asyncDispose]: () => connection.end(),
    };
  },
  sqlite: async (url) => {
    const database = new Database(url.slice("sqlite://".length), { readonly: true });
    const query = database.query<{ id: number | null }, []>(QUERY);
    return {
      id: async () => Number(query.get()?.id ?? 0),
      [Symbol.asyncDispose]: async () => {
        query.finalize();
        database.close();
      },
    };
  },
  duckdb: () => Promise.reject(new Error("one process at a time has a DuckDB file")),
};
