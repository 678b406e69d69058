import { FencedError } from "@cascade/shared/errors";
import { formatLsn, parseLsn } from "@cascade/shared/lsn";
import type { SqlValue } from "../dialect.ts";
import type { Partition } from "../event-consumer.ts";
import type { HeldKey, HoldChange } from "../held-keys.ts";

/** cascade_held_keys: the keys whose changes are held back. The same statements on every engine, but for how they are written. */

export interface HeldRowsDialect {
  /** A text that can be part of a key; any text; a whole number. */
  readonly types: readonly [key: string, text: string, number: string];
  readonly tableOptions?: string;
  /** As SQL. */
  readonly table: string;
  /** Quoted where it is a reserved word. */
  readonly partition: string;
  /** Parameters are $1, $2, ... and not ?. */
  readonly numbered: boolean;
  /** What follows an INSERT that is to pass over a row that is there. */
  readonly insert: readonly [begin: string, end: string];
}

/** Changes exactly one row, or what it was made for is stale. */
export interface HeldStatement {
  readonly text: string;
  readonly values: readonly SqlValue[];
  readonly partition: Partition;
}

export type HeldRow = Readonly<Record<string, unknown>>;

const VALUES = [
  ...["topic", "partition", "key_id", "table_oid", "key_columns", "key_text", "first_commit_lsn", "first_ordinal"],
  ...["last_commit_lsn", "last_ordinal", "events", "error_code", "error_message", "error_advice", "held_at_ms"],
];

const NUMBERS: ReadonlySet<string> = new Set([
  ...["partition", "table_oid", "first_ordinal", "last_ordinal", "events", "held_at_ms"],
]);
const KEYS: ReadonlySet<string> = new Set(["topic", "key_id"]);

export class HeldRows {
  readonly #dialect: HeldRowsDialect;

  constructor(dialect: HeldRowsDialect) {
    this.#dialect = dialect;
  }

  get createText(): string {
    const { table, partition, types, tableOptions = "" } = this.#dialect;
    const [key, text, number] = types;
    const typeOf = (name: string) => (NUMBERS.has(name) ? number : KEYS.has(name) ? key : text);
    const columns = VALUES.map((name) => `${name === "partition" ? partition : name} ${typeOf(name)} NOT NULL`);
    return `CREATE TABLE IF NOT EXISTS ${table} (${columns.join(", ")}, PRIMARY KEY (topic, ${partition}, key_id))${tableOptions}`;
  }

  /** Numbers as text: no driver then reads one in a way of its own. */
  get selectText(): string {
    const { table, partition } = this.#dialect;
    const columns = VALUES.map((name) => {
      const column = name === "partition" ? partition : name;
      return NUMBERS.has(name) ? `CAST(${column} AS CHAR(20)) AS ${column}` : column;
    });
    return `SELECT ${columns.join(", ")} FROM ${table}`;
  }

  /** Of one partition, or all. */
  select(of?: Partition): Pick<HeldStatement, "text" | "values"> {
    if (of === undefined) return { text: this.selectText, values: [] };
    const text = this.#text(`${this.selectText} WHERE topic = ? AND ${this.#dialect.partition} = ?`);
    return { text, values: [of.topic, of.partition] };
  }

  /** In an order that is every writer's: they wait for each other, and never in a ring. */
  statements(changes: readonly HoldChange[] = []): readonly HeldStatement[] {
    return changes.toSorted((a, b) => (keyOf(a).id < keyOf(b).id ? -1 : 1)).map((change) => this.#statement(change));
  }

  #statement(change: HoldChange): HeldStatement {
    const { table, partition, insert } = this.#dialect;
    switch (change.kind) {
      case "hold": {
        const names = VALUES.map((name) => (name === "partition" ? partition : name)).join(", ");
        const marks = VALUES.map(() => "?").join(", ");
        const text = this.#text(`${insert[0]} INTO ${table} (${names}) VALUES (${marks})${insert[1]}`);
        return { text, values: valuesOf(change.key), partition: change.key.partition };
      }
      case "change": {
        const set = ["first_commit_lsn", "first_ordinal", "last_commit_lsn", "last_ordinal", "events"];
        const said = ["error_code", "error_message", "error_advice"];
        const text = `UPDATE ${table} SET ${[...set, ...said].map((name) => `${name} = ?`).join(", ")} WHERE ${this.#sameRow}`;
        const { first, last, events, cause } = change.to;
        const to = [formatLsn(first.commitLsn), first.ordinal, formatLsn(last.commitLsn), last.ordinal, events];
        const values = [...to, cause.code, cause.message, cause.advice, ...sameRowValues(change.from)];
        return { text: this.#text(text), values, partition: change.from.partition };
      }
      case "release": {
        const text = this.#text(`DELETE FROM ${table} WHERE ${this.#sameRow}`);
        return { text, values: sameRowValues(change.from), partition: change.from.partition };
      }
    }
  }

  /** Every change but one of the error alone moves one of these. */
  get #sameRow(): string {
    return `topic = ? AND ${this.#dialect.partition} = ? AND key_id = ? AND last_commit_lsn = ? AND last_ordinal = ? AND events = ?`;
  }

  #text(text: string): string {
    let next = 0;
    return this.#dialect.numbered ? text.replaceAll("?", () => `$${++next}`) : text;
  }
}

const keyOf = (change: HoldChange): HeldKey => (change.kind === "hold" ? change.key : change.from);

const sameRowValues = ({ partition: { topic, partition }, id, last, events }: HeldKey): readonly SqlValue[] => [
  ...[topic, partition, id],
  ...[formatLsn(last.commitLsn), last.ordinal, events],
];

const valuesOf = ({ partition, id, oid, columns, text, first, last, events, cause, heldAtMs }: HeldKey): readonly SqlValue[] => [
  ...[partition.topic, partition.partition, id, oid, columns, text],
  ...[formatLsn(first.commitLsn), first.ordinal, formatLsn(last.commitLsn), last.ordinal, events],
  ...[cause.code, cause.message, cause.advice, heldAtMs],
];

export function heldKeyOf(row: HeldRow): HeldKey {
  const text = (name: string): string => String(row[name]);
  return {
    partition: { topic: text("topic"), partition: Number(text("partition")) },
    id: text("key_id"),
    oid: Number(text("table_oid")),
    columns: text("key_columns"),
    text: text("key_text"),
    first: { commitLsn: parseLsn(text("first_commit_lsn")), ordinal: Number(text("first_ordinal")) },
    last: { commitLsn: parseLsn(text("last_commit_lsn")), ordinal: Number(text("last_ordinal")) },
    events: Number(text("events")),
    cause: { code: text("error_code"), message: text("error_message"), advice: text("error_advice") },
    heldAtMs: Number(text("held_at_ms")),
  };
}

/** Throws FencedError unless the statement changed its one row. */
export function checkHeld(affected: number | null | undefined, { partition: { topic, partition } }: HeldStatement): void {
  if (affected !== 1) throw new FencedError(topic, partition, `what is held of ${topic}`);
}
