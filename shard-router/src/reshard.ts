import { CascadeError, describeError } from "@cascade/shared/errors";
import { formatLsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { PartitionEnd } from "./kafka/stream-end.ts";
import { Ownership, readsOf } from "./ownership.ts";
import { divisionProblem, isSamePart, lies, partOf, partOfOthers } from "./parts.ts";
import type { RememberedTable, Replica } from "./replica.ts";
import type { SchemaBook } from "./schema-book.ts";
import { dropForeign } from "./shard-drop.ts";
import type { Shard, ShardRules } from "./shard-rules.ts";

export interface ReshardPorts {
  /** The replica that takes a smaller part. */
  readonly replica: Pick<Replica, "id" | "dialect" | "parts" | "remembered" | "prepare" | "settle" | "held">;
  readonly name: string;
  readonly beside: readonly Beside[];
  readonly schemas: Pick<SchemaBook, "history" | "settle">;
  /** Where main-db's stream ends now. */
  end(): Promise<readonly PartitionEnd[]>;
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
    throw refused(`replica ${ports.name} has no part yet`, "start its router first, and wait until it has its rows");
  const to = new Ownership(wanted.shard, wanted.rules ?? Ownership.parse(part).rules);
  if (part === before) {
    // A router by the rules from before has taken the part back, when no table had rows yet that they would have had to agree about.
    await replica.parts.finish(before);
    return reshard(ports, wanted);
  }
  const isTaken = part === to.text || (await isAlike(ports, Ownership.parse(part), to));
  if (before !== null) {
    if (!isTaken) throw unfinished(part, before, to);
    say(`going on: of ${shown(before)}, which the replica held before, rows may be left`);
    return await drop(ports, before, Ownership.parse(part));
  }
  if (isTaken) return say(`replica ${ports.name} holds ${shown(part)}, and nothing else: there is nothing to do`);
  await handOver(ports, Ownership.parse(part), to, wanted.timeoutMs);
  await narrow(ports, part, to.text);
  await drop(ports, part, to);
}

/** A router may have brought rules since that say the same of every table. */
async function isAlike({ replica }: ReshardPorts, one: Ownership, other: Ownership): Promise<boolean> {
  const isOfOthers = isSamePart(partOfOthers(one), partOfOthers(other));
  return isOfOthers && (await replica.remembered()).every(({ schema }) => one.signatureOf(schema) === other.signatureOf(schema));
}

/** Resolves when the replicas beside have what this one is to give up. */
async function handOver(ports: ReshardPorts, from: Ownership, to: Ownership, timeoutMs: number | null): Promise<void> {
  const { say } = ports;
  await ports.schemas.settle();
  checkWithin(await livingTables(ports), from, to);
  const end = await ports.end();
  const events = end.reduce((sum, one) => sum + one.end, 0n);
  say(
    `position: the end of main-db's stream as ${end.length} ${end.length === 1 ? "partition has" : "partitions have"} it now, ${events} events`,
  );
  for (const one of end.slice(0, SHOWN)) say(`  ${one.topic}[${one.partition}] up to offset ${one.end}`);
  if (end.length > SHOWN) say(`  and ${end.length - SHOWN} more`);
  const deadline = timeoutMs === null ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  for (let last = { text: "", atMs: 0 }; ; ) {
    const missing = await look(ports, { from, to, end });
    if (missing.length === 0) break;
    const text = missing.join("\n");
    if (
      (text !== last.text && (performance.now() - last.atMs > 2_000 || last.atMs === 0)) ||
      performance.now() - last.atMs > TELL_MS
    ) {
      for (const line of missing) say(`waiting: ${line}`);
      last = { text, atMs: performance.now() };
    }
    if (performance.now() > deadline) throw late(missing);
    await Bun.sleep(ports.pollMs ?? POLL_MS);
  }
}

interface HandOver {
  readonly from: Ownership;
  readonly to: Ownership;
  readonly end: readonly PartitionEnd[];
}

/** What is still to be waited for. Rejects where waiting does not help. */
async function look(ports: ReshardPorts, { from, to, end }: HandOver): Promise<readonly string[]> {
  const { replica, beside, schemas } = ports;
  await schemas.settle();
  const tables = await livingTables(ports);
  checkWithin(tables, from, to);
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
  if (parts.length === beside.length) checkDivision(tables, from, [to, ...parts]);
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
  const outside = tables.filter(({ schema }) => !lies(partOf(to, schema), partOf(from, schema)));
  const others = lies(partOfOthers(to), partOfOthers(from)) ? [] : ["tables that no rule names"];
  if (outside.length + others.length === 0) return;
  throw refused(
    `${shown(to.text)} has rows that are not in ${shown(from.text)}, which the replica holds: of ${listOf([...outside.map(nameOf), ...others])}`,
    `a replica can only give rows up: choose a part of what it holds (the old COUNT must divide the new one, and the new INDEX leave the old one when it is divided by the old COUNT; ` +
      `values and ranges of those it has), or fill new replicas for all of the new parts and switch the old ones off: ${PAGE}`,
  );
}

function checkDivision(tables: readonly RememberedTable[], from: Ownership, parts: readonly Ownership[]): void {
  const problems = tables.flatMap(({ schema }) => {
    const whole = partOf(from, schema);
    const found = parts.map((part) => partOf(part, schema));
    const problem = divisionProblem(whole, found, schema);
    return problem === null ? [] : [`${formatTableName(schema)}: ${problem}`];
  });
  const ofOthers = divisionProblem(partOfOthers(from), parts.map(partOfOthers), null);
  if (ofOthers !== null) problems.push(`tables that no rule names: ${ofOthers}`);
  if (problems.length === 0) return;
  throw refused(
    `what this replica holds would not be on it and the replicas beside it, each row once (${parts.map(({ text }) => shown(text)).join(", ")}): ${listOf(problems, "; ")}`,
    `name every replica that takes over rows of this one, and no other; each must have the same rules but for its own ROUTER_SHARD, values and ranges: ${PAGE}`,
  );
}

/** From here on the replica holds the smaller part, and no router writes by the rules from before. */
async function narrow({ replica, say, name }: ReshardPorts, from: string, to: string): Promise<void> {
  const isDone = await retried(() => replica.parts.narrow(from, to));
  if (!isDone) throw refused(`the part of replica ${name} was changed meanwhile`, "run the command again");
  say(`replica ${name} holds ${shown(to)} from now on; start its routers with ${settingsOf(Ownership.parse(to))}`);
}

async function drop(ports: ReshardPorts, before: string, to: Ownership): Promise<void> {
  const { replica, say, pageRows } = ports;
  const from = Ownership.parse(before);
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
    const found = await dropForeign({ replica, pageRows, retried, dropped }, oid, from, to);
    if (found === null) continue;
    say(`${formatTableName(found)}: ${rows} ${rows === 1 ? "row" : "rows"} given up`);
    total += rows;
  }
  await retried(() => replica.parts.finish(before));
  say(`done: ${total} rows given up; replica ${ports.name} holds ${shown(to.text)}`);
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
const shown = (text: string): string => (text === "" ? "all of main-db" : `the part "${text}"`);

function listOf(texts: readonly string[], separator = ", "): string {
  const more = texts.length > SHOWN ? `${separator}and ${texts.length - SHOWN} more` : "";
  return `${texts.slice(0, SHOWN).join(separator)}${more}`;
}

const refused = (message: string, advice: string): CascadeError =>
  new CascadeError({ code: "RESHARD_REFUSED", verdict: "refuse", message, advice });

const unfinished = (part: string, before: string, to: Ownership): CascadeError =>
  refused(
    `rows may be left of ${shown(before)}, which the replica held before ${shown(part)}: it cannot become ${shown(to.text)} before they are gone`,
    "run the command as it was run before, until it says that it is done",
  );

const late = (missing: readonly string[]): CascadeError =>
  new CascadeError({
    code: "RESHARD_WAITING",
    verdict: "retry",
    message: `the replicas beside have not caught up within --timeout: ${listOf(missing, "; ")}`,
    advice: "nothing was changed: see to what is waited for, and run the command again",
  });

/** As a router is told it, in a shell's words. */
export function settingsOf({ shard, rules }: Pick<Ownership, "shard" | "rules">): string {
  const settings = [
    ...(shard === null ? [] : [`ROUTER_SHARD=${shard.index}/${shard.count}`]),
    ...(rules === null ? [] : [`ROUTER_SHARD_KEYS='${rules.text.replaceAll("'", `'\\''`)}'`]),
  ];
  return settings.length === 0 ? "neither ROUTER_SHARD nor ROUTER_SHARD_KEYS" : settings.join(" ");
}
