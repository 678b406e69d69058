import type { RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { peakRssBytesOf } from "@cascade/local/usage-of.ts";
import { until } from "@cascade/local/wait.ts";
import { topicOf } from "@cascade/shared/topic";
import { Client } from "pg";
import { openDelayLine } from "./delay-line.ts";
import { drain, type Figure, usageOf } from "./figure.ts";
import { openAdmin } from "./kafka-admin.ts";
import type { Trial } from "./lab.ts";
import { benchRow } from "./workloads.ts";

/** What topics hold: the same rows, over more or fewer of them. */
export interface Topics {
  readonly tables: number;
  readonly partitions: number;
}

/** Who applies them, and how. */
export interface Fleet {
  readonly replicas: number;
  /** Of each replica. */
  readonly routers: number;
  /** To the replicas; 0: without a delay line. */
  readonly latencyMs: number;
  /** ROUTER_BATCH_ROWS. */
  readonly batchRows: number;
}

/** What there is of a fleet to say beside what every figure says. */
export interface Scaled extends Topics, Fleet {
  /** Of a query that does nothing, measured on the idle way to the replica. */
  readonly roundTripMs: number;
  /** How much of the routers' time was spent on the way to their replica, in it, and on the way back. */
  readonly waiting: number;
  readonly rowsPerBatch: number;
  readonly msPerBatch: number;
  /** All that the routers' connections did since their start, for each batch: beyond one is what starting, resuming and first looks at tables take. */
  readonly transactionsPerBatch: number;
  /** From the routers' start until each partition was with one of them. */
  readonly joinSeconds: number;
}

/** Every combination; the routers' number varies first, for what they gain is the ratio of neighbours. */
export interface Matrix {
  readonly tables: readonly number[];
  readonly partitions: readonly number[];
  readonly replicas: readonly number[];
  readonly routers: readonly number[];
  readonly latencyMs: readonly number[];
  readonly batchRows: readonly number[];
}

export const topicsOf = ({ tables, partitions }: Matrix): readonly Topics[] =>
  tables.flatMap((count) => partitions.map((each) => ({ tables: count, partitions: each })));

export const fleetsOf = (matrix: Matrix): readonly Fleet[] =>
  matrix.batchRows.flatMap((batchRows) =>
    matrix.replicas.flatMap((replicas) =>
      matrix.latencyMs.flatMap((latencyMs) => matrix.routers.map((routers) => ({ replicas, latencyMs, batchRows, routers }))),
    ),
  );

const TABLES = "public.scale_*";
const LOOK_MS = 20;
/** A fleet joins its group one after the other, and with thousands of partitions each join takes a while. */
const SHARE_MS = 120_000;
const STUCK_MS = 120_000;
const ROUND_TRIPS = 21;

/** Topics are filled once; each fleet reads them from the same row on, into replicas of its own that know all tables already. */
export async function scale(
  trial: Trial,
  topics: Topics,
  fleets: readonly Fleet[],
  changes: number,
  tell: (what: string) => void,
): Promise<readonly Figure[]> {
  const filled = await fill(trial, topics, changes, tell);
  const figures: Figure[] = [];
  for (const [at, fleet] of fleets.entries()) {
    tell(describe({ ...topics, ...fleet }));
    figures.push(await measure(trial, filled, fleet, `${trial.name}_${at}`));
  }
  return figures;
}

export const describe = ({ replicas, routers, tables, partitions, latencyMs, batchRows }: Topics & Fleet): string =>
  [
    `${routers} router${routers > 1 ? "s" : ""}`,
    ...(replicas > 1 ? [`of each of ${replicas} replicas`] : []),
    `${tables} table${tables > 1 ? "s" : ""}${partitions > 1 ? ` of ${partitions} partitions` : ""}`,
    `${latencyMs} ms`,
    `batches of ${batchRows}`,
  ].join(", ");

interface Filled extends Topics {
  /** Messages of all topics that are in the template, and all there are. */
  readonly before: number;
  readonly end: number;
  /** A replica with one row of every table. */
  readonly template: string;
}

/** A row of each table first, which a router brings to the template: with tables made there, what is measured is rows. */
async function fill(
  trial: Trial,
  { tables, partitions }: Topics,
  changes: number,
  tell: (what: string) => void,
): Promise<Filled> {
  const cdc = () => trial.cdc({ tables: TABLES, env: { KAFKA_PARTITIONS: String(partitions) } });
  await trial.sql(SCHEMA);
  await trial.sql(`CALL make_scale(${tables})`);
  {
    await using first = await cdc();
    await first.ready();
    await drain("scale", "cdc", first, tables);
    while ((await first.status()).snapshots.length > 0) await Bun.sleep(50);
    await first.stop();
  }
  const template = { name: "template", url: trial.replicaUrl("postgres") };
  {
    await using router = await trial.routerOf(template, TABLES, {});
    await router.ready();
    await using progress = await Progress.of(template.url);
    await untilAll([{ replica: { progress }, routers: [router] }], await messagesIn(trial, tables));
    await router.stop();
  }
  await trial.sql(`CALL fill_scale(${changes}, ${tables})`);
  await using rest = await cdc();
  await rest.ready();
  await drain("scale", "cdc", rest, changes);
  const { publishedBytesTotal, eventsTotal } = await rest.status();
  tell(
    `${tables} x ${partitions} partitions filled with ${changes} rows of ${Math.round(publishedBytesTotal / eventsTotal)} bytes`,
  );
  await rest.stop();
  await using progress = await Progress.of(template.url);
  const [before, end] = [await progress.messages(), await messagesIn(trial, tables)];
  return { tables, partitions, before, end, template: trial.name };
}

const LOOKED_AT_ONCE = 50;

/** A change may be a message in several partitions: Kafka says how many there are. */
async function messagesIn(trial: Trial, tables: number): Promise<number> {
  await using kafka = await openAdmin(trial.brokers);
  const topics = Array.from({ length: tables }, (_, n) => topicOf(trial.name, { schema: "public", table: `scale_${n}` }));
  let sum = 0;
  for (let at = 0; at < tables; at += LOOKED_AT_ONCE) {
    const some = topics.slice(at, at + LOOKED_AT_ONCE).map((topic) => kafka.admin.fetchTopicOffsets(topic));
    for (const { high } of (await Promise.all(some)).flat()) sum += Number(high);
  }
  return sum;
}

/** One point: from when all routers have their share of the partitions until the last row is there. */
async function measure(trial: Trial, filled: Filled, fleet: Fleet, name: string): Promise<Figure> {
  await using open = new AsyncDisposableStack();
  const { port } = trial.postgres;
  const line = fleet.latencyMs === 0 ? null : open.use(await openDelayLine(port, fleet.latencyMs));
  const replicas: Replica[] = [];
  for (let n = 0; n < fleet.replicas; n++) {
    const database = `${name}_${n}`;
    await trial.postgres.query("postgres", `CREATE DATABASE "${database}" TEMPLATE "${filled.template}"`);
    open.defer(() => trial.postgres.dropDatabase(database));
    const [direct, url] = [trial.postgres.url(database), new URL(trial.postgres.url(database))];
    if (line !== null) url.port = String(line.port);
    const progress = open.use(await Progress.of(direct));
    replicas.push({ name: database, direct, url: url.href, progress });
  }
  const roundTripMs = await roundTrip((replicas[0] as Replica).url);
  const env = { ROUTER_BATCH_ROWS: String(fleet.batchRows) };
  const launchedAt = performance.now();
  const started = replicas.map(async (replica): Promise<Crew> => {
    const routers = await Promise.all(Array.from({ length: fleet.routers }, () => trial.routerOf(replica, TABLES, env)));
    for (const router of routers) open.use(router);
    await Promise.all(routers.map((router) => router.ready()));
    return { replica, routers };
  });
  const crews = await Promise.all(started);
  const routers = crews.flatMap((crew) => crew.routers);
  await Promise.all(crews.map((crew) => untilSharedOut(crew, filled)));

  const spent = await spendingOf(routers);
  const processes = new Map(routers.map(({ child }, at) => [String(at), child.pid]));
  const [cpu, servers, own] = [usageOf(processes), usageOf(trial.servers(["postgres"])), process.cpuUsage()];
  const startedAt = performance.now();
  const joinSeconds = (startedAt - launchedAt) / 1000;
  const first = await messagesOf(crews);
  await untilAll(crews, filled.end);
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuSeconds = Object.values(cpu()).reduce((sum, used) => sum + used, 0);
  const { user, system } = process.cpuUsage(own);
  const used = { ...servers(), bench: (user + system) / 1e6 };
  const peakRssBytes = Math.max(...routers.map(({ child }) => peakRssBytesOf(child.pid)));
  const spentThen = await spendingOf(routers);
  const [batches, applying] = [spentThen.batches - spent.batches, spentThen.seconds - spent.seconds];
  await Promise.all(routers.map((router) => router.stop()));
  let transactions = 0;
  for (const { name: database, progress } of replicas) transactions += (await transactionsOf(trial, database)) - progress.queries;
  for (const { direct } of replicas) await trial.verifyAt(direct, TABLES);

  const rows = filled.end * fleet.replicas - first;
  if (rows < (filled.end - filled.before) * fleet.replicas * MIN_SHARE)
    throw new Error("most rows were there before the routers had shared out the partitions: give --changes more");
  const busy = Math.min(fleet.routers, filled.tables * filled.partitions) * fleet.replicas;
  const { tables, partitions } = filled;
  const scaled: Scaled = {
    ...{ tables, partitions, ...fleet, roundTripMs },
    waiting: applying / (seconds * busy),
    rowsPerBatch: rows / batches,
    msPerBatch: (applying / batches) * 1000,
    transactionsPerBatch: (transactions - ROUND_TRIPS) / spentThen.batches,
    joinSeconds,
  };
  return { part: "scale", who: describe(scaled), rows, seconds, cpuSeconds, peakRssBytes, servers: used, scaled };
}

/** Of the rows that must be left when the clock starts. */
const MIN_SHARE = 0.5;

interface Replica {
  readonly name: string;
  /** Without the delay. */
  readonly direct: string;
  readonly url: string;
  readonly progress: Progress;
}

/** All routers of a replica. */
interface Crew {
  readonly replica: Replica;
  readonly routers: readonly Service<RouterStatus>[];
}

/** A replica says itself how far it is, which costs the routers nothing. */
class Progress implements AsyncDisposable {
  readonly #client: Client;
  queries = 0;

  private constructor(client: Client) {
    this.#client = client;
  }

  static async of(url: string): Promise<Progress> {
    const client = new Client({ connectionString: url });
    await client.connect();
    return new Progress(client);
  }

  /** How many messages of all topics it is past. */
  async messages(): Promise<number> {
    this.queries++;
    const { rows } = await this.#client.query("SELECT coalesce(sum(next_offset), 0) AS messages FROM cascade.progress");
    return Number(rows[0].messages);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client.end();
  }
}

/** Of everybody who was connected to the database: what a connection did counts once it is closed. */
async function transactionsOf({ postgres }: Trial, database: string): Promise<number> {
  const ask = (sql: string) => postgres.query("postgres", sql, [database]);
  const connected = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND application_name = 'cascade shard-router'";
  if (!(await until(async () => (await ask(connected)).length === 0, 10_000)))
    throw new Error(`routers stay connected to ${database}`);
  const [counts] = await ask("SELECT xact_commit + xact_rollback AS all FROM pg_stat_database WHERE datname = $1");
  return Number(counts?.["all"]);
}

async function messagesOf(crews: readonly Crew[]): Promise<number> {
  const found = await Promise.all(crews.map(({ replica }) => replica.progress.messages()));
  return found.reduce((sum, messages) => sum + messages, 0);
}

/** In a group that has just grown a partition may be with two routers, or with none. */
async function untilSharedOut({ routers }: Crew, { tables, partitions }: Topics): Promise<void> {
  const giveUpAt = performance.now() + SHARE_MS;
  for (;;) {
    const states = await Promise.all(
      routers.map((router) =>
        alive(
          router,
          router.status().catch(() => null),
        ),
      ),
    );
    const held = states.map((state) => state?.partitions.map(({ topic, partition }) => `${topic} ${partition}`) ?? []);
    if (isSharedOut(held, tables * partitions)) return;
    if (performance.now() > giveUpAt)
      throw new Error(`${tables * partitions} partitions are not shared out: routers have ${held.map((keys) => keys.length)}`);
    await Bun.sleep(LOOK_MS);
  }
}

/** Pure. Each of so many partitions is with one router, and none has two more than another. */
export function isSharedOut(held: readonly (readonly string[])[], partitions: number): boolean {
  const counts = held.map((keys) => keys.length);
  const each = new Set(held.flat()).size === partitions && counts.reduce((sum, count) => sum + count, 0) === partitions;
  return each && Math.max(...counts) - Math.min(...counts) <= 1;
}

interface Draining {
  readonly replica: Pick<Replica, "progress">;
  readonly routers: readonly Service<unknown>[];
}

async function untilAll(crews: readonly Draining[], end: number): Promise<void> {
  let [before, movedAt] = [0, performance.now()];
  for (;;) {
    const found = await Promise.all(
      crews.map(async ({ replica, routers }) => {
        await Promise.all(routers.map((router) => alive(router, null)));
        return replica.progress.messages();
      }),
    );
    if (found.every((messages) => messages >= end)) return;
    const sum = found.reduce((total, messages) => total + messages, 0);
    if (sum > before) [before, movedAt] = [sum, performance.now()];
    else if (performance.now() - movedAt > STUCK_MS)
      throw new Error(`stuck at ${found} of ${end} messages:\n${crews[0]?.routers.map((router) => router.log()).join("\n")}`);
    await Bun.sleep(LOOK_MS);
  }
}

/** `value`, unless the router has ended by itself. */
const alive = <T>(router: Service<unknown>, value: T): Promise<Awaited<T>> =>
  Promise.race([value, router.died.then((error) => Promise.reject(error))]) as Promise<Awaited<T>>;

interface Spending {
  readonly batches: number;
  readonly seconds: number;
}

async function spendingOf(routers: readonly Service<unknown>[]): Promise<Spending> {
  const pages = await Promise.all(
    routers.map(async ({ httpUrl }) => (await fetch(`${httpUrl}/metrics`, { keepalive: false })).text()),
  );
  const spendings = pages.map(spendingIn);
  return {
    batches: spendings.reduce((sum, { batches }) => sum + batches, 0),
    seconds: spendings.reduce((sum, { seconds }) => sum + seconds, 0),
  };
}

/** Pure. What a router's /metrics says; a router that has applied nothing yet says nothing. */
export function spendingIn(metrics: string): Spending {
  const of = (suffix: string): number =>
    Number(new RegExp(`^cascade_router_apply_duration_seconds_${suffix}\\{[^}]*\\} (\\S+)`, "m").exec(metrics)?.[1] ?? 0);
  return { batches: of("count"), seconds: of("sum") };
}

/** The median of some. */
async function roundTrip(url: string): Promise<number> {
  const client = new Client({ connectionString: url });
  await client.connect();
  const found: number[] = [];
  for (let n = 0; n < ROUND_TRIPS; n++) {
    const startedAt = performance.now();
    await client.query("SELECT 1");
    found.push(performance.now() - startedAt);
  }
  await client.end();
  return found.sort((a, b) => a - b)[ROUND_TRIPS >> 1] as number;
}

/** The rows of `spread`, over as many tables as are asked for. */
const SCHEMA = `
  CREATE FUNCTION scale_rows(first bigint, last bigint) RETURNS SETOF bench LANGUAGE sql AS $$
    SELECT ${benchRow("'new'")} FROM generate_series(first, last) AS id $$;
  CREATE PROCEDURE make_scale(tables integer) LANGUAGE plpgsql AS $$
  BEGIN
    FOR n IN 0..tables - 1 LOOP
      EXECUTE format('CREATE TABLE scale_%s (LIKE bench INCLUDING ALL)', n);
      EXECUTE format('INSERT INTO scale_%s SELECT * FROM scale_rows(0, 0)', n);
      IF n % 100 = 99 THEN COMMIT; END IF;
    END LOOP;
  END $$;
  CREATE PROCEDURE fill_scale(total bigint, tables integer) LANGUAGE plpgsql AS $$
  DECLARE n bigint := 0;
  BEGIN
    FOR chunk IN 1..total BY 10 LOOP
      EXECUTE format('INSERT INTO scale_%s SELECT * FROM scale_rows($1, $2)', n % tables) USING chunk, least(chunk + 9, total);
      n := n + 1;
      IF n % 10 = 0 THEN COMMIT; END IF;
    END LOOP;
  END $$`;
