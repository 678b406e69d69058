import type { ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { canonicalNumeric } from "@cascade/shared/key-equality";
import { PART_SEPARATOR, partOf } from "@cascade/shared/key-parts";
import { type ColumnSchema, FIRST_USER_OID, type TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import { PG_TYPE, WHOLE_NUMBERS } from "./row-shape.ts";
import type { SchemaHistory } from "./schema-history.ts";
import { type Bound, betweenNumbers, betweenTimes, parseBound } from "./shard-ranges.ts";
import { parseShard, parseShardRules, type Shard, type ShardRule, type ShardRules } from "./shard-rules.ts";

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

  /** Reads `text`. Throws SyntaxError. */
  static parse(text: string): Ownership {
    const [, shard, rules = ""] = /^(?:(\d+\/\d+)(?: |$))?(.*)$/s.exec(text) ?? [];
    return new Ownership(shard === undefined ? null : parseShard(shard), rules === "" ? null : parseShardRules(rules));
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
   * its key is another, or the column has another type. `rewritten`: main-db may have written other values into columns of another type.
   */
  isDividedAnew(from: TableSchema, to: TableSchema, rewritten = false): boolean {
    const signature = this.signatureOf(to);
    if (this.signatureOf(from) !== signature) return true;
    if (!rewritten || signature === null) return false;
    return this.of(to)?.columns.some((name) => isOfOtherType(columnOf(to, name), from)) ?? false;
  }

  /**
   * Whether a partition of the table's topic, of `count`, may hold rows of this replica's. Where a table is divided by its key, partitions and shards
   * are made by the same number (`partOf`): of a multiple of the shards' number each partition is one shard's, whatever its key was or will be.
   */
  reads(table: TableName, partition: number, count: number): boolean {
    if (this.#shard === null || count === 1 || count % this.#shard.count !== 0 || partition >= count) return true;
    const isByKey = this.#rules === null || !this.#rules.rules.some(({ tables }) => tables.matches(table));
    return !isByKey || partition % this.#shard.count === this.#shard.index;
  }

  /** Where two of these are equal of a table, the same of its rows are this replica's. null: it cannot be divided, and none is taken. */
  signatureOf(schema: TableSchema): string | null {
    try {
      return this.of(schema)?.signature ?? "all";
    } catch (error) {
      if (error instanceof CascadeError && error.code === "SHARD_KEY") return null;
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
          (row) => partOf(texts.map((text) => text(row)).join(PART_SEPARATOR), count) === index,
          ["hash", index, count],
        );
      }
      case "list": {
        const column = columnOf(schema, rule.column);
        const text = textOf(schema, column);
        const values = new Set(rule.values.map((value) => listed(schema, column, value)));
        return new TableShare(schema, [rule.column], (row) => ownValue(row, rule.column) !== null && values.has(text(row)), [
          "list",
          ...[...values].toSorted(),
        ]);
      }
      case "range":
        return new TableShare(schema, [rule.column], inRange(schema, rule), ["range", rule.from?.text, rule.to?.text]);
    }
  }
}

/** Two of these are equal exactly when their texts are: what hashes to one shard must not hash to another spelt otherwise. */
const EXACT: ReadonlySet<number> = new Set([16, 18, 19, 20, 21, 23, 25, 26, 829, 774, 1043, 1082, 1083, 1114, 1184, 2950]);
const TEXTS: ReadonlySet<number> = new Set([19, 25, 1043]);
/** What an end of a range, or a listed value, may be of a column of the type. */
const TIMES: ReadonlyMap<number, string> = new Map([
  [PG_TYPE.date, "a date like 2026-01-31"],
  [PG_TYPE.timestamp, "a date or time like 2026-01-31 12:00:00, without a zone"],
  [PG_TYPE.timestamptz, "a date or time like 2026-01-31 12:00:00+00, in UTC unless it names a zone"],
]);

/** Throws CascadeError SHARD_KEY. */
export function columnOf(schema: TableSchema, name: string): ColumnSchema {
  const column = schema.columns.find((one) => one.name === name);
  if (column !== undefined) return column;
  throw unfit(
    schema,
    `it has no column ${JSON.stringify(name)}, by which ROUTER_SHARD_KEYS divides it`,
    "name a column that it has",
  );
}

function isOfOtherType({ attnum, typeOid, typmod }: ColumnSchema, from: TableSchema): boolean {
  const before = from.columns.find((column) => column.attnum === attnum);
  return before?.typeOid !== typeOid || before.typmod !== typmod;
}

/** Of types that write a value alike. */
function textClass({ attnum, typeOid }: ColumnSchema): readonly [attnum: number, text: string | number] {
  return [attnum, WHOLE_NUMBERS.has(typeOid) ? "whole number" : TEXTS.has(typeOid) ? "text" : typeOid];
}

/** The column's value as PostgreSQL writes it; NULL as the empty text. */
function textOf(schema: TableSchema, { name, typeOid, type }: ColumnSchema): (row: WireRow) => string {
  const plain = (row: WireRow) => String(ownValue(row, name) ?? "");
  if (typeOid === PG_TYPE.numeric) return (row) => canonicalNumeric(plain(row));
  if (EXACT.has(typeOid) || typeOid >= FIRST_USER_OID) return plain;
  throw unfit(
    schema,
    `column ${name} is of type ${type}, of which two values may be equal and look different`,
    "divide it by a column of a whole number, numeric, text, uuid, boolean, date or timestamp type",
  );
}

/** null also where the row does not have it: a column may be called "constructor". */
const ownValue = (row: WireRow, name: string) => (Object.hasOwn(row, name) ? (row[name] ?? null) : null);

/** A value of a list as a row has it. */
export function listed(schema: TableSchema, column: ColumnSchema, value: string): string {
  const { typeOid } = column;
  const bound = parseBound(value.trim());
  if (WHOLE_NUMBERS.has(typeOid) || typeOid === PG_TYPE.numeric) {
    if (bound?.kind === "number" && (typeOid === PG_TYPE.numeric || !bound.text.includes("."))) return bound.text;
    if (typeOid === PG_TYPE.numeric && value === "NaN") return value;
    throw unlike(schema, column, value, typeOid === PG_TYPE.numeric ? "a number" : "a whole number");
  }
  if (TIMES.has(typeOid)) {
    if (!isTimeOf(column, bound)) throw unlike(schema, column, value, TIMES.get(typeOid) as string);
    if (typeOid === PG_TYPE.date) return bound.text;
    const time = bound.kind === "date" ? `${bound.text} 00:00:00` : bound.text;
    return typeOid === PG_TYPE.timestamptz ? `${time}+00` : time;
  }
  if (typeOid === PG_TYPE.bool && value !== "true" && value !== "false") throw unlike(schema, column, value, "true or false");
  if (typeOid !== PG_TYPE.uuid) return value;
  if (/^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i.test(value)) return value.toLowerCase();
  throw unlike(schema, column, value, "a uuid");
}

function isTimeOf({ typeOid }: ColumnSchema, bound: Bound | null): bound is Bound {
  if (bound === null || bound.kind === "number") return false;
  return typeOid === PG_TYPE.date ? bound.kind === "date" : typeOid === PG_TYPE.timestamptz || !bound.zoned;
}

function inRange(schema: TableSchema, { column: name, from, to }: Extract<ShardRule, { readonly kind: "range" }>): Owns {
  const column = columnOf(schema, name);
  const { typeOid, type } = column;
  const isNumber = WHOLE_NUMBERS.has(typeOid) || typeOid === PG_TYPE.numeric;
  const allowed = isNumber ? "a number" : TIMES.get(typeOid);
  if (allowed === undefined)
    throw unfit(
      schema,
      `column ${name} is of type ${type}, which has no ranges here`,
      "use a range of whole numbers, numerics, dates or timestamps, or a list of values",
    );
  for (const bound of [from, to])
    if (bound !== null && (isNumber ? bound.kind !== "number" : !isTimeOf(column, bound)))
      throw unlike(schema, column, bound.text, allowed);
  const isBetween = isNumber ? betweenNumbers(from, to) : betweenTimes(from, to);
  return (row) => {
    const value = ownValue(row, name);
    return value !== null && isBetween(String(value));
  };
}

type Owns = (row: WireRow) => boolean;

/** Ownership.text, for people. */
export const describePart = (text: string): string => (text === "" ? "all of main-db" : `the part "${text}"`);

/** Which partitions a replica that holds a part reads, by what is known of topics. */
export const readsOf =
  (ownership: Ownership, history: Pick<SchemaHistory, "partitionsOf">) =>
  (table: TableName, partition: number): boolean =>
    ownership.reads(table, partition, history.partitionsOf(table));

/** This replica's part of one table, in one schema version. */
export class TableShare {
  /** Of what makes a row this replica's. */
  readonly signature: string;
  readonly #owns: Owns;
  readonly #columns: readonly string[];
  readonly #keyless: boolean;
  /** Its columns are all in the key: a row that was another's has another key. */
  readonly #byKey: boolean;

  constructor(schema: TableSchema, columns: readonly string[], owns: Owns, of: readonly unknown[]) {
    this.signature = JSON.stringify([columns.map((name) => textClass(columnOf(schema, name))), of]);
    this.#owns = owns;
    this.#columns = columns;
    this.#keyless = schema.key.length === 0;
    this.#byKey = columns.every((name) => schema.key.includes(name));
    if (!this.#byKey && schema.identity !== "full")
      throw unfit(
        schema,
        `it is divided by ${columns.join(", ")}, which is not all in its key, and main-db's WAL does not say what these were before a change`,
        `on main-db: ALTER TABLE ${formatTableName(schema)} REPLICA IDENTITY FULL; or divide it by columns of its key`,
      );
  }

  /** What it is divided by. */
  get columns(): readonly string[] {
    return this.#columns;
  }

  /** Whether the row is this replica's. Asks for `columns` alone. */
  owns(row: WireRow): boolean {
    return this.#owns(row);
  }

  /**
   * What the event means here: a row that is another's from now on is one fewer, one that was another's is one more. null: it says nothing of
   * this replica's rows.
   */
  here(event: ReceivedEvent): ReceivedEvent | null {
    const { op, before, after } = event;
    switch (op) {
      case "t":
        return event;
      case "d":
        return before === null || this.#owns(before) || this.#mayBeHere(event) ? event : null;
      // One without a row is malformed, which is said where it is turned.
      case "c":
        return after === null || this.#owns(after) ? event : null;
      case "r":
        if (after === null || this.#owns(after)) return event;
        // What a copy reads of a row that is not ours says that it must not be here, where its key alone does not say so. Of a table without a
        // key it says nothing of one row: an equal one may be somebody's, and such a copy begins with an empty table.
        return this.#byKey || this.#keyless ? null : { ...event, op: "d", before: before ?? after, after: null };
      case "u":
        return after === null ? event : this.#updated(event, before, after);
    }
  }

  #updated(event: ReceivedEvent, before: WireRow | null, after: WireRow): ReceivedEvent | null {
    const isOurs = this.#owns(this.#isIn(after) ? after : whole(before, after));
    if (!isOurs && this.#mayBeHere(event) && (before !== null || this.#isIn(after)))
      return { ...event, op: "d", before: before ?? after, after: null };
    if (before === null || this.#isSame(before, after)) return isOurs ? event : null;
    const wasOurs = this.#owns(before);
    if (!isOurs) return wasOurs ? { ...event, op: "d", after: null } : null;
    if (wasOurs) return event;
    if (this.#keyless) return { ...event, op: "c", before: null, after: whole(before, after) }; // the old row would have to be there
    // Where a part was given up, the old row may be there yet, as it was then (reshard.ts): it is not looked for, so that what does not come whole is
    // missed, and not completed by that. While the table is being filled the copy completes it.
    return event.marks?.filling === true ? event : { ...event, before: null, after: whole(before, after) };
  }

  /**
   * Whether the row may be here, though it was another's before the event: main-db may have written another value into what the table is divided by, unseen
   * (ALTER COLUMN ... USING), for which the table is copied. A row that is gone before it is copied is known to be so by this event alone.
   */
  #mayBeHere({ marks }: ReceivedEvent): boolean {
    return marks?.filling === true && !this.#byKey && !this.#keyless;
  }

  #isIn(row: WireRow): boolean {
    for (const name of this.#columns) if (!Object.hasOwn(row, name)) return false;
    return true;
  }

  /** The update changes none of the columns. */
  #isSame(before: WireRow, after: WireRow): boolean {
    for (const name of this.#columns) {
      if (!Object.hasOwn(before, name)) return false;
      if (Object.hasOwn(after, name) && before[name] !== after[name]) return false;
    }
    return true;
  }
}

/** A column that the source did not send has not changed. */
const whole = (before: WireRow | null, after: WireRow): WireRow => (before === null ? after : { ...before, ...after });

/** A value in ROUTER_SHARD_KEYS, which may be said: it is the configuration's. */
const unlike = (schema: TableSchema, { name, type }: ColumnSchema, value: string, allowed: string): CascadeError =>
  unfit(
    schema,
    `ROUTER_SHARD_KEYS has ${JSON.stringify(value)} for column ${name} of type ${type}, which takes ${allowed}`,
    "correct ROUTER_SHARD_KEYS",
  );

function unfit(schema: TableSchema, problem: string, advice: string): CascadeError {
  return new CascadeError({
    code: "SHARD_KEY",
    verdict: "stop-table",
    message: `${formatTableName(schema)} cannot be divided into shards: ${problem}`,
    advice,
  });
}
