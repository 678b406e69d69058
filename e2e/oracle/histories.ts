import fc from "fast-check";
import { placeOf } from "./names.ts";
import { type OracleTable, oracleTable } from "./schemas.ts";

/** What happens to a set of tables. All numbers are taken modulo what there is: any history means something for any tables. */
export interface History {
  readonly tables: readonly OracleTable[];
  readonly transactions: readonly Transaction[];
  /** How a router's share of the events is cut into batches, table after table. */
  readonly batchSizes: readonly number[];
  /** Events that are delivered once more before each batch. */
  readonly replays: readonly number[];
}

export interface Transaction {
  readonly steps: readonly Step[];
  /** Every statement in a savepoint of its own, so that one that a constraint refuses does not take the others with it. */
  readonly guarded: boolean;
  readonly end: "commit" | "rollback";
}

export type Step = Change | { readonly act: "roll back"; readonly changes: readonly Change[] };

const ACTS = [
  "insert",
  "upsert",
  "update",
  "update all",
  "rekey",
  "move",
  "swap unique",
  "swap keys",
  "copy",
  "delete",
  "delete key",
  "truncate",
] as const;
type Act = (typeof ACTS)[number];
const WEIGHTS: Readonly<Record<Act, number>> = {
  insert: 24,
  upsert: 7,
  update: 12,
  "update all": 1,
  rekey: 8,
  move: 8,
  "swap unique": 3,
  "swap keys": 5,
  copy: 3,
  delete: 5,
  "delete key": 2,
  truncate: 1,
};

export interface Change {
  readonly act: Act;
  readonly table: number;
  /** Which of the rows, and which other one. */
  readonly row: number;
  readonly other: number;
  /** By column: what it becomes. */
  readonly values: readonly Value[];
}

/** `pick`: of the palette. */
export type Value = { readonly kind: "pick" | "keep" | "null" | "default"; readonly pick: number };

const value: fc.Arbitrary<Value> = fc.record({
  kind: fc.constantFrom("pick", "pick", "pick", "pick", "keep", "keep", "keep", "null", "default"),
  pick: fc.nat(7),
});
const change: fc.Arbitrary<Change> = fc.record({
  act: fc.oneof({ withCrossShrink: true }, ...ACTS.map((act) => ({ weight: WEIGHTS[act], arbitrary: fc.constant(act) }))),
  table: fc.nat(5),
  row: fc.nat(20),
  other: fc.nat(20),
  values: fc.array(value, { minLength: 9, maxLength: 9 }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: change },
  {
    weight: 1,
    arbitrary: fc.record({ act: fc.constant("roll back" as const), changes: fc.array(change, { minLength: 1, maxLength: 3 }) }),
  },
);
const transaction: fc.Arbitrary<Transaction> = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 8, size: "max" }),
  guarded: fc.constantFrom(true, true, false),
  end: fc.oneof(
    { weight: 19, arbitrary: fc.constant("commit" as const) },
    { weight: 1, arbitrary: fc.constant("rollback" as const) },
  ),
});

export const history: fc.Arbitrary<History> = fc.record({
  tables: fc.uniqueArray(oracleTable, { minLength: 1, maxLength: 4, size: "max", selector: ({ name }) => placeOf(name) }),
  transactions: fc.array(transaction, { minLength: 1, maxLength: 16, size: "max" }),
  batchSizes: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 4 }),
  replays: fc.array(fc.constantFrom(0, 0, 0, 1, 5), { minLength: 1, maxLength: 3 }),
});
