import { DIVIDED_BY, type Division, formOf } from "./division.ts";
import { Random } from "./random.ts";
import type { SchemaChangeOptions } from "./schema-changes.ts";
import type { TableForm } from "./tables.ts";

/** Replicas that refuse rows now and then. */
export interface Refusals {
  readonly onError: "stop" | "dead-letter";
  readonly maxHeldKeys: number;
  /** One row in so many. */
  readonly oneIn: number;
}

/** What a history is made of. */
export interface Plan {
  readonly initial: boolean;
  readonly copies: boolean;
  readonly ddl: SchemaChangeOptions | null;
  readonly tables: readonly { readonly name: string; readonly keyed: boolean; readonly rows: number }[];
  readonly cdcs: number;
  readonly replicas: readonly number[];
  readonly chunkRows: number;
  readonly cdcBatchRows: number;
  readonly routerBatchRows: number;
  readonly transactions: number;
  readonly pauseMs: number;
  readonly rate: number;
  readonly stormPauseMs: number;
  /** CDC_ON_SLOT_LOST=resnapshot, which wants CDC_SNAPSHOT=initial. */
  readonly losesSlot: boolean;
  readonly refusals: Refusals | null;
  /** KAFKA_PARTITIONS. */
  readonly partitions: number;
  /** null: every replica has all of main-db. */
  readonly division: Division | null;
  readonly form: TableForm;
}

/** What is given is not left to chance. */
export interface PlanOptions {
  /** At most. */
  readonly transactions?: number | undefined;
  readonly partitions?: number | undefined;
  /** 1: none. */
  readonly shards?: number | undefined;
}

export function planOf(seed: number, given: PlanOptions = {}): Plan {
  const { transactions: mostTransactions = Number.POSITIVE_INFINITY } = given;
  const division = divisionOf(seed, given.shards);
  const form = formOf(division);
  const random = new Random(seed ^ 0x5eed);
  const initial = random.chance(0.5);
  const retention = random.chance(0.25);
  const count = random.between(1, 3);
  const plan = {
    initial,
    copies: initial || retention,
    ddl: random.chance(0.5) ? changesOf(initial, division) : null,
    tables: Array.from({ length: count }, (_, at) => ({
      name: `t${at}`,
      keyed: random.chance(0.75) || !form.mayLackKey,
      rows: initial ? random.between(0, 12) : 0,
    })),
    cdcs: random.between(1, 2),
    replicas: replicasOf(random, division),
    chunkRows: random.between(1, 6),
    cdcBatchRows: random.between(1, 10),
    routerBatchRows: random.between(1, 12),
    transactions: Math.min(random.between(5, 40), mostTransactions),
    pauseMs: random.pick([50, 500, 3_000]),
    rate: random.pick([0.2, 1, 1, 3]),
    stormPauseMs: random.pick([500, 2_000, 8_000]),
    losesSlot: random.chance(0.4) && initial,
    // Of its own chances: seeds from before there were partitions have the same histories otherwise.
    partitions: given.partitions ?? new Random(seed ^ 0x9a27).pick([1, 1, 2, 3]),
    division,
    form,
  };
  const often = { oneIn: random.pick([7, 7, 3]), restless: random.chance(0.4) };
  const refusals: Refusals = {
    onError: random.chance(0.8) ? "dead-letter" : "stop",
    maxHeldKeys: random.chance(0.2) ? random.between(1, 4) : 1_000,
    oneIn: random.between(2, 8),
  };
  const refuses = random.chance(0.25);
  const mayLoseKeys = random.chance(0.4) && form.mayLackKey;
  const ddl = plan.ddl && { ...plan.ddl, ...often, form, keys: mayLoseKeys, crowded: random.chance(0.2) };
  if (!refuses) return { ...plan, ddl, refusals: null };
  // A table with a trigger of the user's own cannot be altered at will.
  return { ...plan, ddl: ddl && { ...ddl, alters: false }, refusals };
}

/** Of its own chances, as the partitions are. */
function divisionOf(seed: number, given: number | undefined): Division | null {
  const random = new Random(seed ^ 0x5a4d);
  const shards = given ?? random.pick([1, 1, 1, 2, 3]);
  return shards === 1 ? null : { shards, by: random.pick(DIVIDED_BY), splits: random.chance(0.4) };
}

function changesOf(initial: boolean, division: Division | null) {
  return {
    // By name a table may be divided anew, for which it is copied.
    alters: initial || division?.by !== "name",
    // Of a table that leaves before it was copied nobody takes over what is given up: that is waited for.
    copies: initial && division?.splits !== true,
  };
}

/** How many routers each has. */
function replicasOf(random: Random, division: Division | null): readonly number[] {
  const replicas = random.chance(0.3) ? [random.between(1, 2), 1] : [random.between(1, 3)];
  if (division === null) return replicas;
  return Array.from({ length: division.shards + (division.splits ? 1 : 0) }, (_, at) => Math.min(replicas[at] ?? 1, 2));
}
