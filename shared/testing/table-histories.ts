import fc from "fast-check";
import type { Op, ReceivedEvent, WireRow, WireValue } from "../src/change-event.ts";
import type { TableSchema } from "../src/table-schema.ts";
import { tableSchema } from "./table-schemas.ts";

/** What a source table went through: the events that its slot would have sent, and the rows it ended with. */
export interface TableHistory {
  readonly schema: TableSchema;
  /** A column with a unique index of its own; its values move between rows. */
  readonly uniqueColumn: string | null;
  readonly events: readonly ReceivedEvent[];
  readonly rows: readonly WireRow[];
}

interface TableKind {
  readonly schema: TableSchema;
  readonly uniqueColumn?: string;
}

const columns = { n: "integer", big: "text" };

/** Every table has a column `big` whose unchanged value the source does not send, as it does with TOAST. */
export const TABLE_KINDS = {
  plain: { schema: tableSchema("plain", { id: "integer", ...columns }) },
  composite: { schema: tableSchema("composite", { b: "integer", a: "text", ...columns }, { key: ["a", "b"] }) },
  keyOnly: { schema: tableSchema("key_only", { a: "integer", b: "text" }, { key: ["a", "b"] }) },
  /** 1.0 and 1.00 are one key that looks different. */
  numericKey: { schema: tableSchema("numeric_key", { id: "numeric", ...columns }) },
  full: { schema: tableSchema("full", { id: "integer", ...columns }, { identity: "full" }) },
  keyless: { schema: tableSchema("keyless", columns, { key: [] }) },
  unique: { schema: tableSchema("uniq", { id: "integer", u: "integer", ...columns }), uniqueColumn: "u" },
} satisfies Readonly<Record<string, TableKind>>;

export type TableKindName = keyof typeof TABLE_KINDS;

const WEIGHTS: Readonly<Record<Step["act"], number>> = {
  insert: 20,
  update: 14,
  rekey: 10,
  swap: 6,
  delete: 5,
  read: 2,
  truncate: 1,
};

interface Step {
  readonly act: "insert" | "update" | "rekey" | "swap" | "delete" | "truncate" | "read";
  /** Which of the rows there are. */
  readonly pick: number;
  /** New values; those for which `keep` is set stay what they are. */
  readonly values: Readonly<Record<string, WireValue>>;
  readonly keep: Readonly<Record<string, boolean>>;
}

export function tableHistory(name: TableKindName, options: { readonly maxSteps?: number } = {}): fc.Arbitrary<TableHistory> {
  const kind: TableKind = TABLE_KINDS[name];
  const values = Object.fromEntries(kind.schema.columns.map((column) => [column.name, valuesOf(kind.schema, column.name)]));
  const keep = Object.fromEntries(kind.schema.columns.map((column) => [column.name, fc.boolean()]));
  const act = fc.oneof(
    ...(Object.entries(WEIGHTS) as [Step["act"], number][]).map(([value, weight]) => ({ weight, arbitrary: fc.constant(value) })),
  );
  const step = fc.record({ act, pick: fc.nat(100), values: fc.record(values), keep: fc.record(keep) });
  return fc.array(step, { maxLength: options.maxSteps ?? 40, size: "max" }).map((steps) => live(kind, steps));
}

/** Few values, so that rows meet. */
function valuesOf(schema: TableSchema, column: string): fc.Arbitrary<WireValue> {
  const type = schema.columns.find(({ name }) => name === column)?.type;
  const inKey = schema.key.includes(column);
  if (type === "numeric") return fc.constantFrom("0", "1.0", "1.00", "2", "2.0");
  const values: readonly WireValue[] = type === "integer" ? [0, 1, 2, 3, 4, 5] : ["", "a", "A", "é😀'\"\\"];
  return fc.constantFrom(...values, ...(inKey ? [] : [null]));
}

/** Runs the steps on a model of the table. A step that the table's constraints would refuse does not happen. */
function live({ schema, uniqueColumn }: TableKind, steps: readonly Step[]): TableHistory {
  let rows: WireRow[] = [];
  const events: ReceivedEvent[] = [];
  const say = (op: Op, before: WireRow | null, after: WireRow | null) =>
    events.push({
      op,
      before,
      after,
      schemaId: schema.id,
      committedAtMs: 0,
      commitLsn: BigInt(events.length + 1),
      ordinal: 0,
      marks: null,
    });
  /** The row as the table would take it beside the others: without a unique value that another has; null when its key is taken. */
  const taken = (row: WireRow, others: readonly WireRow[]): WireRow | null => {
    if (schema.key.length > 0 && others.some((other) => sameKey(schema, other, row))) return null;
    const clashes = uniqueColumn !== undefined && others.some((other) => other[uniqueColumn] === row[uniqueColumn]);
    return clashes ? { ...row, [uniqueColumn]: null } : { ...row };
  };
  const update = (old: WireRow, wanted: WireRow): WireRow => {
    const at = rows.indexOf(old);
    const row = taken(wanted, rows.toSpliced(at, 1));
    if (row === null) return old;
    rows[at] = row;
    const { big, ...sent } = row;
    say("u", identityOf(schema, old), big === old["big"] ? sent : row);
    return row;
  };
  for (const { act, pick, values, keep } of steps) {
    const old = rows[pick % rows.length];
    if (act === "insert") {
      const row = taken(values, rows);
      if (row === null) continue;
      rows.push(row);
      say("c", null, row);
    } else if (act === "truncate") {
      rows = [];
      say("t", null, null);
    } else if (old === undefined) {
    } else if (act === "read") {
      if (schema.key.length > 0) say("r", null, old); // a snapshot of a table without a key is another matter
    } else if (act === "delete") {
      rows.splice(rows.indexOf(old), 1);
      say("d", identityOf(schema, old), null);
    } else if (act === "swap" && uniqueColumn !== undefined) {
      const other = rows[(pick + 1) % rows.length];
      if (other === undefined || other === old) continue;
      const without = update(old, { ...old, [uniqueColumn]: null });
      update(other, { ...other, [uniqueColumn]: old[uniqueColumn] ?? null });
      update(without, { ...without, [uniqueColumn]: other[uniqueColumn] ?? null });
    } else {
      const stays = (name: string): boolean => (schema.key.includes(name) ? act !== "rekey" : keep[name] === true);
      update(
        old,
        Object.fromEntries(Object.entries(values).map(([name, value]) => [name, stays(name) ? (old[name] ?? null) : value])),
      );
    }
  }
  return { schema, uniqueColumn: uniqueColumn ?? null, events, rows };
}

function sameKey(schema: TableSchema, a: WireRow, b: WireRow): boolean {
  const comparable = (row: WireRow, name: string) =>
    schema.columns.find((column) => column.name === name)?.type === "numeric" ? Number(row[name]) : row[name];
  return schema.key.every((name) => comparable(a, name) === comparable(b, name));
}

/** What the WAL keeps of the old row. */
function identityOf(schema: TableSchema, row: WireRow): WireRow {
  return schema.identity === "full" ? row : Object.fromEntries(schema.key.map((name) => [name, row[name] ?? null]));
}

/** The events as a consumer may get them: in batches of any size. */
export function batchesOf<T>(items: readonly T[], sizes: readonly number[]): (readonly T[])[] {
  const batches: (readonly T[])[] = [];
  for (let start = 0, batch = 0; start < items.length; batch++) {
    const size = Math.max(1, sizes[batch % sizes.length] ?? 1);
    batches.push(items.slice(start, start + size));
    start += size;
  }
  return batches;
}

export const batchSizes: fc.Arbitrary<readonly number[]> = fc.array(fc.integer({ min: 1, max: 20 }), {
  minLength: 1,
  maxLength: 5,
});

/** Rows in an order of their own, values as text, so that tables of any engine can be compared. */
export function comparableRows(rows: readonly Readonly<Record<string, unknown>>[]): readonly string[] {
  const text = (value: unknown) => (value === null ? null : String(value));
  return rows
    .map((row) =>
      JSON.stringify(
        Object.entries(row)
          .map(([name, value]) => [name, text(value)])
          .sort(),
      ),
    )
    .sort();
}
