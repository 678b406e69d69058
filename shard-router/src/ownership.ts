import { createHash } from "node:crypto";
import type { ReceivedEvent, WireRow, WireValue } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { type ColumnSchema, FIRST_USER_OID, type TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { canonicalNumeric } from "./key-equality.ts";
import type { Shard, ShardRule, ShardRules } from "./shard-rules.ts";

/**
 * Which rows are this replica's, where it holds a part of main-db (ROUTER_SHARD, ROUTER_SHARD_KEYS). Pure. Whose a row is follows from the
 * row alone, the same on every engine and in every process: docs/sharding.md says it in SQL.
 */
export class Ownership {
  readonly #shard: Shard | null;
  readonly #rules: ShardRules | null;
  readonly #tables = new Map<string, TableShare | null>();

  constructor(shard: Shard | null, rules: ShardRules | null) {
    this.#shard = shard;
    this.#rules = rules;
  }

  get shard(): Shard | null {
    return this.#shard;
  }

  get rules(): ShardRules | null {
    return this.#rules;
  }

  /** What is remembered of it in the replica; empty for a replica of everything. */
  get text(): string {
    const shard = this.#shard === null ? "" : `${this.#shard.index}/${this.#shard.count}`;
    return [shard, this.#rules?.text ?? ""].join(" ").trim();
  }

  /** null: all of the table is this replica's. Throws CascadeError SHARD_KEY (stop-table) where the rule does not fit the table. */
  of(schema: TableSchema): TableShare | null {
    if (this.#shard === null && this.#rules === null) return null;
    const known = this.#tables.get(schema.id);
    if (known !== undefined) return known;
    const share = this.#shareOf(schema);
    this.#tables.set(schema.id, share);
    return share;
  }

  /**
   * Whether other rows of the table are this replica's by `to` than by `from`, though no row was changed: a rename put it under another rule,
   * its key is another, or the column has another type.
   */
  isDividedAnew(from: TableSchema, to: TableSchema): boolean {
    return this.#signature(from) !== this.#signature(to);
  }

  #signature(schema: TableSchema): string {
    try {
      return this.of(schema)?.signature ?? "all";
    } catch (error) {
      if (error instanceof CascadeError) return "none";
      throw error;
    }
  }

  /** By what the table is divided, whether or not it can be. */
  ruleOf(schema: TableSchema): ShardRule {
    return this.#rules?.rules.find(({ tables }) => tables.matches(schema))?.rule ?? { kind: "hash", columns: schema.key };
  }

  #shareOf(schema: TableSchema): TableShare | null {
    const rule = this.ruleOf(schema);
    switch (rule.kind) {
      case "broadcast":
        return null;
      case "hash": {
        if (this.#shard === null || this.#shard.count === 1) return null;
        if (rule.columns.length === 0)
          throw unfit(
            schema,
            "it has no key to be hashed by",
            "name a column for it in ROUTER_SHARD_KEYS, or * for all of it on every shard",
          );
        const { index, count } = this.#shard;
        const texts = rule.columns.map((name) => textOf(schema, columnOf(schema, name)));
        return new TableShare(
          schema,
          rule.columns,
          (row) => shardOf(texts.map((text) => text(row)).join(SEPARATOR), count) === index,
          [index, count],
        );
      }
      case "list": {
        const column = columnOf(schema, rule.column);
        const text = textOf(schema, column);
        const values = new Set(rule.values.map((value) => (column.typeOid === NUMERIC ? canonicalNumeric(value) : value)));
        return new TableShare(schema, [rule.column], (row) => row[rule.column] !== null && values.has(text(row)), [...values]);
      }
      case "range":
        return new TableShare(schema, [rule.column], inRange(schema, rule), [rule.from, rule.to]);
    }
  }
}

/** Between the texts of several columns. */
const SEPARATOR = "\x1f";
const NUMERIC = 1700;
/** Two of these are equal exactly when their texts are: what hashes to one shard must not hash to another spelt otherwise. */
const EXACT: ReadonlySet<number> = new Set([16, 18, 19, 20, 21, 23, 25, 26, 829, 774, 1043, 1082, 1083, 1114, 1184, 2950]);
const WHOLE_NUMBERS: ReadonlySet<number> = new Set([20, 21, 23, 26]);
const TEXTS: ReadonlySet<number> = new Set([19, 25, 1043]);
/** ISO texts of the same form order as their values do. */
const TIMES: ReadonlySet<number> = new Set([1082, 1114, 1184]);

/** `md5(text)`, its first 8 digits as a number, modulo `count`. */
export function shardOf(text: string, count: number): number {
  return createHash("md5").update(text).digest().readUInt32BE(0) % count;
}

function columnOf(schema: TableSchema, name: string): ColumnSchema {
  const column = schema.columns.find((one) => one.name === name);
  if (column !== undefined) return column;
  throw unfit(
    schema,
    `it has no column ${JSON.stringify(name)}, by which ROUTER_SHARD_KEYS divides it`,
    "name a column that it has",
  );
}

/** Of types that write a value alike. */
function textClass({ attnum, typeOid }: ColumnSchema): readonly [attnum: number, text: string | number] {
  return [attnum, WHOLE_NUMBERS.has(typeOid) ? "whole number" : TEXTS.has(typeOid) ? "text" : typeOid];
}

/** The column's value as PostgreSQL writes it; NULL as the empty text. */
function textOf(schema: TableSchema, { name, typeOid, type }: ColumnSchema): (row: WireRow) => string {
  const plain = (value: WireValue | undefined) => (value === null || value === undefined ? "" : String(value));
  if (typeOid === NUMERIC) return (row) => canonicalNumeric(plain(row[name]));
  if (EXACT.has(typeOid) || typeOid >= FIRST_USER_OID) return (row) => plain(row[name]);
  throw unfit(
    schema,
    `column ${name} is of type ${type}, of which two values may be equal and look different`,
    "divide it by a column of a whole number, numeric, text, uuid, boolean, date or timestamp type",
  );
}

function inRange(schema: TableSchema, { column: name, from, to }: Extract<ShardRule, { readonly kind: "range" }>): Owns {
  const { typeOid, type } = columnOf(schema, name);
  const compare = WHOLE_NUMBERS.has(typeOid) || typeOid === NUMERIC ? compareNumbers : TIMES.has(typeOid) ? compareTexts : null;
  if (compare === null)
    throw unfit(
      schema,
      `column ${name} is of type ${type}, which has no ranges here`,
      "use a range of whole numbers, numerics, dates or timestamps, or a list of values",
    );
  for (const bound of [from, to])
    if (bound !== null && compare === compareNumbers && !DECIMAL.test(bound))
      throw unfit(
        schema,
        `its range in ROUTER_SHARD_KEYS ends at ${JSON.stringify(bound)}, which is no number`,
        "correct ROUTER_SHARD_KEYS",
      );
  return (row) => {
    const value = Object.hasOwn(row, name) ? row[name] : null;
    if (value === null || value === undefined) return false;
    const text = String(value);
    // NaN and the infinities are in no range; neither are years that are written otherwise.
    if (compare === compareNumbers ? !DECIMAL.test(text) : !/^\d{4}-/.test(text)) return false;
    return (from === null || compare(text, from) >= 0) && (to === null || compare(text, to) <= 0);
  };
}

const DECIMAL = /^-?\d+(?:\.\d+)?$/;
const compareTexts = (one: string, other: string): number => (one < other ? -1 : Number(one > other));

/** Of decimals of any length. */
export function compareNumbers(one: string, other: string): number {
  const negative = one.startsWith("-");
  if (negative !== other.startsWith("-")) return isZero(one) && isZero(other) ? 0 : negative ? -1 : 1;
  const [a, b] = [parts(one), parts(other)];
  const size = a.whole.length - b.whole.length || compareTexts(a.whole, b.whole) || compareTexts(a.fraction, b.fraction);
  return negative ? 0 - size : size;
}

const isZero = (text: string): boolean => /^-?0+(?:\.0+)?$/.test(text);

function parts(text: string): { readonly whole: string; readonly fraction: string } {
  const [whole = "", fraction = ""] = text.replace("-", "").split(".");
  return { whole: whole.replace(/^0+(?=\d)/, ""), fraction: fraction.replace(/0+$/, "") };
}

type Owns = (row: WireRow) => boolean;

/** This replica's part of one table, in one schema version. */
export class TableShare {
  /** Of what makes a row this replica's. */
  readonly signature: string;
  /** What it is divided by. */
  readonly columns: readonly string[];
  readonly #owns: Owns;
  readonly #keyless: boolean;
  /** Its columns are all in the key: a row that was another's has another key. */
  readonly #byKey: boolean;

  constructor(schema: TableSchema, columns: readonly string[], owns: Owns, of: readonly unknown[]) {
    this.signature = JSON.stringify([columns.map((name) => textClass(columnOf(schema, name))), of]);
    this.columns = columns;
    this.#owns = owns;
    this.#keyless = schema.key.length === 0;
    this.#byKey = columns.every((name) => schema.key.includes(name));
    if (!this.#byKey && schema.identity !== "full")
      throw unfit(
        schema,
        `it is divided by ${columns.join(", ")}, which is not all in its key, and main-db's WAL does not say what these were before a change`,
        `on main-db: ALTER TABLE ${formatTableName(schema)} REPLICA IDENTITY FULL; or divide it by columns of its key`,
      );
  }

  /** Whether the row is this replica's. Asks for `columns` alone. */
  owns(row: WireRow): boolean {
    return this.#owns(row);
  }

  /** The event says something of this replica's rows. */
  concerns({ op, before, after }: ReceivedEvent): boolean {
    switch (op) {
      case "t":
        return true;
      case "c":
        return after !== null && this.#owns(after);
      case "r":
        // What a copy reads says of a row that is not ours that it must not be here, where its key alone does not say so.
        return after !== null && (!this.#byKey || this.#owns(after));
      case "d":
        return before === null || this.#owns(before);
      case "u":
        return after !== null && (this.#owns(whole(before, after)) || (before !== null && this.#owns(before)));
    }
  }

  /** What such an event means here: a row that is another's from now on is one fewer, one that was another's is one more. */
  here(event: ReceivedEvent): ReceivedEvent {
    const { op, before, after } = event;
    if (after === null || (op !== "u" && op !== "r")) return event;
    const row = whole(before, after);
    if (!this.#owns(row)) return { ...event, op: "d", before: before ?? after, after: null };
    // Of a table without a key the old row must be there to be removed.
    if (op === "u" && this.#keyless && before !== null && !this.#owns(before))
      return { ...event, op: "c", before: null, after: row };
    return event;
  }
}

/** A column that the source did not send has not changed. */
const whole = (before: WireRow | null, after: WireRow): WireRow => (before === null ? after : { ...before, ...after });

function unfit(schema: TableSchema, problem: string, advice: string): CascadeError {
  return new CascadeError({
    code: "SHARD_KEY",
    verdict: "stop-table",
    message: `${formatTableName(schema)} cannot be divided into shards: ${problem}`,
    advice,
  });
}
