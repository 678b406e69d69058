import { CascadeError, describeError } from "@cascade/shared/errors";
import { formatLsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { ShardClaim } from "./claim-shard.ts";
import type { RunningCopy } from "./kafka/copy-states.ts";
import type { PartitionEnd } from "./kafka/stream-end.ts";
import { describePart, Ownership, readsOf } from "./ownership.ts";
import { divisionProblem, isSamePart, lies, partHeld, partOfOthers } from "./parts.ts";
import type { RememberedTable, Replica } from "./replica.ts";
import type { SchemaBook } from "./schema-book.ts";
import { dropForeign } from "./shard-drop.ts";
import type { Shard, ShardRules } from "./shard-rules.ts";

export interface ReshardPorts {
  /** The replica that takes a smaller part. */
  readonly replica: Pick<
    Replica,
    "id" | "dialect" | "parts" | "claim" | "remembered" | "prepare" | "progress" | "settle" | "held"
  >;
  readonly name: string;
  readonly beside: readonly Beside[];
  readonly schemas: Pick<SchemaBook, "history" | "settle">;
  /** Where main-db's stream ends now. */
  end(): Promise<readonly PartitionEnd[]>;
  /** Copies of tables that are not done: what they bring is beyond where the stream ends now. */
  copies(): Promise<readonly RunningCopy[]>;
  /** Names and numbers only. */
  say(line: string): void;
  /** Looked at, and dropped, in one transaction. */
  readonly pageRows: number;
  readonly pollMs?: number;
}

/** A replica that takes over some of what is given up. */
export interface Beside {
  readonly name: string;
  /** Anew at each look: DuckDB's file is its router's in between. */
  open(): Promise<BesideReplica>;
}
type BesideReplica = Pick<Replica, "id" | "parts" | "remembered" | "progress" | "held"> & AsyncDisposable;

export interface Wanted {
  readonly shard: Shard | null;
  /** null: those that the replica goes by. */
  readonly rules: ShardRules | null;
  readonly timeoutMs: number | null;
}

const POLL_MS = 1_000;
/** The same news is told again after this long, so that everybody sees that it is waited still. */
const TELL_MS = 30_000;
const TELL_DROP_MS = 10_000;
const SHOWN = 20;
const MAX_TRIES = 100;
const PAUSE_MS = 50;

/**
 * Gives up what the replica holds beyond `wanted`, once the replicas beside it have it: nothing is changed before they have applied all that
 * main-db's stream has now. Begun and not ended, by whomever, it is gone on with. Rejects with CascadeError.
 */
export async function reshard(ports: ReshardPorts, wanted: Wanted): Promise<void> {
  const { replica, say } = ports;
  const { part, before } = await replica.parts.read();
  if (part === null)
    throw refused(
      `replica ${ports.name} has no part yet, or a router was about to claim another`,
      "start its router first, and wait until it has its rows",
    );
  const to = new Ownership(wanted.shard, wanted.rules ?? Ownership.parse(part).rules);
  if (before !== null && (await isAlike(ports, Ownership.parse(part), Ownership.parse(before)))) {
    // A router by the rules from before, or such as say the same, has taken the part back, when no table had rows yet that they would have had to
    // agree about.
    await replica.parts.finish(before);
    return reshard(ports, wanted);
  }
  const isTaken = part === to.text || (await isAlike(ports, Ownership.parse(part), to));
  if (before !== null) {
    if (!isTaken) throw unfinished(part, before, to);
    say(
      `going on: of ${describePart(before)}, which the replica held before, rows may be left; its routers have ${settingsOf(to)}`,
    );
    await catchUp(ports, Ownership.parse(before), to, wanted.timeoutMs);
    return await drop(ports, before, Ownership.parse(part));
  }
  if (isTaken) return say(`replica ${ports.name} holds ${describePart(part)}, and nothing else: there is nothing to do`);
  const from = Ownership.parse(part);
  await handOver(ports, from, to, wanted.timeoutMs);
  await narrow(ports, part, to.text);
  await catchUp(ports, from, to, wanted.timeoutMs);
  await drop(ports, part, to);
}

/** A router may have brought rules since that say the same of every table. */
async function isAlike({ replica }: ReshardPorts, one: Ownership, other: Ownership): Promise<boolean> {
  const isOfOthers = isSamePart(partOfOthers(one), partOfOthers(other));
  return isOfOthers && (await replica.remembered()).every(({ schema }) => one.signatureOf(schema) === other.signatureOf(schema));
}

/** Resolves when the replicas beside have what this one is to give up, but for what main-db's stream brings from then on. */
async function handOver(ports: ReshardPorts, from: Ownership, to: Ownership, timeoutMs: number | null): Promise<void> {
  const { say } = ports;
  await ports.schemas.settle();
  const tables = await livingTables(ports);
  checkWithin(tables, from, to);
  checkEnvironment(ports, tables, await ports.end());
  const end = async (): Promise<readonly PartitionEnd[]> => {
    const found = await ports.end();
    const events = found.reduce((sum, one) => sum + one.end, 0n);
    say(
      `position: the end of main-db's stream as ${found.length} ${found.length === 1 ? "partition has" : "partitions have"} it now, ${events} events`,
    );
    for (const one of found.slice(0, SHOWN)) say(`  ${one.topic}[${one.partition}] up to offset ${one.end}`);
    if (found.length > SHOWN) say(`  and ${found.length - SHOWN} more`);
    return found;
  };
  await waitFor(ports, { from, to, end }, timeoutMs);
}

/**
 * What the replica has applied since the position: no more of what it has given up comes to it, and the replicas beside have to have that before it
 * goes here. Resolves when they do.
 */
async function catchUp(ports: ReshardPorts, from: Ownership, to: Ownership, timeoutMs: number | null): Promise<void> {
  await waitFor(ports, { from, to, isTaken: true, end: (hasCopied) => (hasCopied ? ports.end() : ownEnd(ports)) }, timeoutMs);
}

interface Waiting {
  readonly from: Ownership;
  readonly to: Ownership;
  /** Where the replicas beside must be: asked once, when no copy is under way any more. What these have brought is in the stream as it ends then. */
  end(hasCopied: boolean): Promise<readonly PartitionEnd[]>;
  /** The replica has taken its new part: whether the parts fit together was seen before, of the tables as they were then. */
  readonly isTaken?: true;
}

/** Tells now and then what is waited for, until there is nothing left. */
async function waitFor(ports: ReshardPorts, { from, to, end, isTaken }: Waiting, timeoutMs: number | null): Promise<void> {
  const deadline = timeoutMs === null ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  let wanted: readonly PartitionEnd[] | null = null;
  let hasCopied = false;
  for (let last = { text: "", atMs: 0 }; ; ) {
    const copying = wanted === null ? await copiesOf(ports) : [];
    if (copying.length === 0) wanted ??= await end(hasCopied);
    else hasCopied = true;
    const missing = [
      ...copying,
      ...(wanted === null ? [] : await look(ports, { from, to, end: wanted, isTaken: isTaken === true })),
    ];
    if (missing.length === 0) return;
    const text = missing.join("\n");
    const sinceMs = performance.now() - last.atMs;
    if ((text !== last.text && (sinceMs > 2_000 || last.atMs === 0)) || sinceMs > TELL_MS) {
      for (const line of missing) ports.say(`waiting: ${line}`);
      last = { text, atMs: performance.now() };
    }
    if (performance.now() > deadline) throw late(missing);
    await Bun.sleep(ports.pollMs ?? POLL_MS);
  }
}

async function copiesOf(ports: ReshardPorts): Promise<readonly string[]> {
  const copies = await ports.copies();
  const tables = (await livingTables(ports)).filter(({ oid }) => copies.some((copy) => copy.oid === oid));
  return tables.length === 0 ? [] : [`cdc copies ${namesOf(tables)}`];
}

/** How far the replica has applied each partition of its tables. */
async function ownEnd({ replica, schemas, end }: ReshardPorts): Promise<readonly PartitionEnd[]> {
  await schemas.settle();
  const own: PartitionEnd[] = [];
  for (const one of await end()) {
    const progress = await replica.progress(one);
    if (progress !== null) own.push({ ...one, end: progress.nextOffset });
  }
  return own;
}

/** A wrong setting would make nothing of what is to be waited for. */
function checkEnvironment({ schemas }: ReshardPorts, tables: readonly RememberedTable[], end: readonly PartitionEnd[]): void {
  const topics = new Set(end.map(({ table }) => formatTableName(table)));
  const unknown = tables.filter(({ oid }) => {
    const newest = schemas.history.newest(oid);
    return newest === undefined || (newest !== null && !topics.has(formatTableName(newest.schema)));
  });
  if (unknown.length === 0) return;
  throw refused(
    `the replica has ${namesOf(unknown)}, and Kafka has nothing of that in the environment's words`,
    "give the command its routers' environment: KAFKA_BROKERS, KAFKA_TOPIC_PREFIX and ROUTER_TABLES among it",
  );
}

interface HandOver {
  readonly from: Ownership;
  readonly to: Ownership;
  readonly end: readonly PartitionEnd[];
  readonly isTaken: boolean;
}

/** What is still to be waited for. Rejects where waiting does not help. */
async function look(ports: ReshardPorts, { from, to, end, isTaken }: HandOver): Promise<readonly string[]> {
  const { replica, beside, schemas } = ports;
  await schemas.settle();
  const tables = await livingTables(ports);
  if (!isTaken) checkWithin(tables, from, to);
  const missing: string[] = [];
  const ids = new Set([replica.id]);
  const parts: Ownership[] = [];
  const positions: string[] = [];
  for (const { name, open } of beside) {
    try {
      await using other = await open();
      if (ids.has(other.id))
        throw refused(`${name} is given twice, or is this replica itself`, "name each replica beside this one once");
      ids.add(other.id);
      const { part } = await other.parts.read();
      if (part === null) {
        missing.push(`${name} has no part yet: is its router started?`);
        continue;
      }
      const ownership = Ownership.parse(part);
      parts.push(ownership);
      const reads = readsOf(ownership, schemas.history);
      const behind = await behindOf(
        other,
        tables,
        end.filter(({ table, partition }) => reads(table, partition)),
      );
      missing.push(...behind.missing.map((text) => `${name} ${text}`));
      positions.push(`${name} at ${formatLsn(behind.commitLsn)}`);
    } catch (error) {
      if (!(error instanceof CascadeError) || error.verdict !== "retry") throw error;
      missing.push(`${name} cannot be looked at: ${describeError(error)}`);
    }
  }
  // Of those that can be told: a wrong part is said before anybody has waited for it.
  if (!isTaken && parts.length === beside.length) checkDivision(tables, from, [to, ...parts]);
  if (missing.length === 0 && positions.length > 0)
    ports.say(`applied by all beside: main-db's commits up to ${positions.join(", ")}`);
  return missing;
}

async function behindOf(other: BesideReplica, tables: readonly RememberedTable[], end: readonly PartitionEnd[]) {
  const missing: string[] = [];
  const known = new Map((await other.remembered()).map((table) => [table.oid, table]));
  const absent = tables.filter(({ oid }) => !known.has(oid));
  if (absent.length > 0) missing.push(`has not ${namesOf(absent)} yet (does its ROUTER_TABLES leave that out?)`);
  const copying = tables.filter(({ oid }) => (known.get(oid)?.awaiting ?? null) !== null);
  if (copying.length > 0) missing.push(`waits for a copy of ${namesOf(copying)}`);
  let [events, commitLsn] = [0n, 0n];
  const late: string[] = [];
  for (const one of end) {
    const progress = await other.progress(one);
    if (progress !== null && progress.commitLsn > commitLsn) commitLsn = progress.commitLsn;
    const left = one.end - (progress?.nextOffset ?? 0n);
    if (left <= 0n) continue;
    events += left;
    late.push(one.topic);
  }
  if (late.length > 0) missing.push(`has ${events} events to go up to the position, in ${listOf(late)}`);
  const held = await other.held();
  if (held.length > 0)
    missing.push(
      `holds back ${held.length} keys, whose rows it may lack: mend their cause and run dead-letters replay (or discard) there`,
    );
  return { missing, commitLsn };
}

/** Those that main-db has still: of others no rows will come to anybody. */
async function livingTables({ replica, schemas }: ReshardPorts): Promise<readonly RememberedTable[]> {
  return (await replica.remembered()).filter(({ oid }) => schemas.history.newest(oid) !== null);
}

function checkWithin(tables: readonly RememberedTable[], from: Ownership, to: Ownership): void {
  for (const { schema } of tables) checkRule(to, schema);
  const outside = tables.filter(({ schema }) => !lies(partHeld(to, schema), partHeld(from, schema)));
  const others = lies(partOfOthers(to), partOfOthers(from)) ? [] : ["tables that no rule names"];
  if (outside.length + others.length === 0) return;
  throw refused(
    `${describePart(to.text)} has rows that are not in ${describePart(from.text)}, which the replica holds: of ${listOf([...outside.map(nameOf), ...others])}`,
    `a replica can only give rows up: choose a part of what it holds (the old COUNT must divide the new one, and the new INDEX leave the old one when it is divided by the old COUNT; ` +
      `values and ranges of those it has), or fill new replicas for all of the new parts and switch the old ones off: ${PAGE}`,
  );
}

function checkRule(to: Ownership, schema: TableSchema): void {
  try {
    to.of(schema);
  } catch (error) {
    if (!(error instanceof CascadeError) || error.code !== "SHARD_KEY") throw error;
    throw refused(
      `by the rules that it is to have (--keys, or those that it has), ${error.message}`,
      `${error.advice}; where the table has changed on main-db, bring this replica's routers by rules that fit it first`,
    );
  }
}

function checkDivision(tables: readonly RememberedTable[], from: Ownership, parts: readonly Ownership[]): void {
  const problems = tables.flatMap(({ schema }) => {
    const whole = partHeld(from, schema);
    const found = parts.map((part) => partHeld(part, schema));
    const problem = divisionProblem(whole, found, schema);
    return problem === null ? [] : [`${formatTableName(schema)}: ${problem}`];
  });
  const ofOthers = divisionProblem(partOfOthers(from), parts.map(partOfOthers), null);
  if (ofOthers !== null) problems.push(`tables that no rule names: ${ofOthers}`);
  if (problems.length === 0) return;
  throw refused(
    `what this replica holds would not be on it and the replicas beside it, each row once (${parts.map(({ text }) => describePart(text)).join(", ")}): ${listOf(problems, "; ")}`,
    `name every replica that takes over rows of this one, and no other; each must have the same rules but for its own ROUTER_SHARD, values and ranges: ${PAGE}`,
  );
}

/** From here on the replica holds the smaller part, and no router writes by the rules from before. */
async function narrow({ replica, say, name }: ReshardPorts, from: string, to: string): Promise<void> {
  const isDone = await retried(() => replica.parts.narrow(from, to));
  if (!isDone) throw refused(`the part of replica ${name} was changed meanwhile`, "run the command again");
  say(`replica ${name} holds ${describePart(to)} from now on; start its routers with ${settingsOf(Ownership.parse(to))}`);
}

async function drop(ports: ReshardPorts, before: string, to: Ownership): Promise<void> {
  const { replica, say, pageRows } = ports;
  const from = Ownership.parse(before);
  const claim = new ShardClaim(replica, to);
  const part = async (): Promise<Ownership> => Ownership.parse(await retried(() => claim.held()));
  let total = 0;
  for (const { oid } of await replica.remembered()) {
    let rows = 0;
    let toldAtMs = performance.now();
    const dropped = (count: number, table: TableSchema): void => {
      rows += count;
      if (performance.now() - toldAtMs < TELL_DROP_MS) return;
      toldAtMs = performance.now();
      say(`${formatTableName(table)}: ${rows} rows given up so far`);
    };
    const found = await dropForeign({ replica, pageRows, part, retried, dropped }, oid, from);
    if (found === null) continue;
    say(`${formatTableName(found)}: ${rows} ${rows === 1 ? "row" : "rows"} given up`);
    total += rows;
  }
  const now = await part();
  if ((await isAlike(ports, now, from)) && !(await isAlike(ports, now, to)))
    throw refused(
      `a router of replica ${ports.name} has taken ${describePart(before)} back, as there was no table yet`,
      `start its routers with ${settingsOf(to)}, and run the command again`,
    );
  await retried(() => replica.parts.finish(before));
  say(`done: ${total} rows given up; replica ${ports.name} holds ${describePart(now.text)}`);
  const held = await replica.held();
  if (held.length > 0)
    say(
      `${held.length} keys are held back here still; dead-letters replay applies those of its own part, and releases the others`,
    );
}

/** A running router was in the way. */
async function retried<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      const isPassing = error instanceof CascadeError && ["REPLICA_CONFLICT", "REPLICA_LOCKED"].includes(error.code);
      if (!isPassing || tries >= MAX_TRIES) throw error;
      await Bun.sleep(PAUSE_MS);
    }
  }
}

const PAGE = "docs/sharding.md, Divide anew";
const nameOf = ({ schema }: { readonly schema: TableSchema }): string => formatTableName(schema);
const namesOf = (tables: readonly RememberedTable[]): string => listOf(tables.map(nameOf));

function listOf(texts: readonly string[], separator = ", "): string {
  const more = texts.length > SHOWN ? `${separator}and ${texts.length - SHOWN} more` : "";
  return `${texts.slice(0, SHOWN).join(separator)}${more}`;
}

const refused = (message: string, advice: string): CascadeError =>
  new CascadeError({ code: "RESHARD_REFUSED", verdict: "refuse", message, advice });

const unfinished = (part: string, before: string, to: Ownership): CascadeError =>
  refused(
    `rows may be left of ${describePart(before)}, which the replica held before ${describePart(part)}: it cannot become ${describePart(to.text)} before they are gone`,
    "run the command as it was run before, until it says that it is done",
  );

const late = (missing: readonly string[]): CascadeError =>
  new CascadeError({
    code: "RESHARD_WAITING",
    verdict: "retry",
    message: `the replicas beside have not caught up within --timeout: ${listOf(missing, "; ")}`,
    advice: "no row was dropped: see to what is waited for, and run the command again",
  });

/** As a router is told it, in a shell's words. */
export function settingsOf({ shard, rules }: Pick<Ownership, "shard" | "rules">): string {
  const settings = [
    ...(shard === null ? [] : [`ROUTER_SHARD=${shard.index}/${shard.count}`]),
    ...(rules === null ? [] : [`ROUTER_SHARD_KEYS='${rules.text.replaceAll("'", `'\\''`)}'`]),
  ];
  return settings.length === 0 ? "neither ROUTER_SHARD nor ROUTER_SHARD_KEYS" : settings.join(" ");
}
