import type { ChangeEvent, Op } from "@cascade/shared/change-event";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { type ColumnSchema, identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";

export type Value = number | string | null;
/** By attnum: a column keeps its values over renames. */
export type Row = ReadonlyMap<number, Value>;

/** One change of one row, or of the table. */
export interface RowChange {
  readonly kind: "row";
  readonly op: Extract<Op, "c" | "u" | "d" | "t">;
  readonly schema: TableSchema;
  readonly before: Row | null;
  readonly after: Row | null;
  /** Columns that the update does not send (TOAST). */
  readonly unsent: ReadonlySet<number>;
}

export const ID = 1;
export const COUNT = 2;
export const TEXT = 3;
/** Of a row's id. */
export const MAX_ID = 14;

/** How tables are called that are not of CDC_TABLES. */
export const HIDDEN = "hidden_";
/** CDC_TABLES. */
export const CAPTURED = parseTableFilter(`public.*,!public.${HIDDEN}*`);

export const isHidden = (schema: TableSchema): boolean => !CAPTURED.matches(schema);

/** What tables may be, and become. */
export interface TableForm {
  readonly mayLackKey: boolean;
  /** REPLICA IDENTITY FULL with a key, too: every old row is told whole. */
  readonly isFull: boolean;
  /** Columns that keep their name and are not dropped. */
  readonly keeps: ReadonlySet<number>;
}

/** `id` and two columns more; without a key, or where all are `isFull`: every old row is told whole. */
export function firstSchema(table: string, oid: number, keyed: boolean, isFull: boolean): TableSchema {
  const columns = [
    columnSchema("id", "integer", { attnum: ID, nullable: !keyed }),
    columnSchema("n", "integer", { attnum: COUNT }),
    columnSchema("text", "text", { attnum: TEXT }),
  ];
  return identifySchema({
    schema: "public",
    table,
    oid,
    columns,
    key: keyed ? ["id"] : [],
    identity: identityOf(keyed, isFull),
  });
}

const identityOf = (keyed: boolean, isFull: boolean) => (keyed && !isFull ? "default" : "full");

export function withKey({ id: _id, ...schema }: TableSchema, keyed: boolean, isFull: boolean): TableSchema {
  const columns = schema.columns.map((column) => (column.attnum === ID && keyed ? { ...column, nullable: false } : column));
  const key = columns.filter(({ attnum }) => keyed && attnum === ID).map(({ name }) => name);
  return identifySchema({ ...schema, columns, key, identity: identityOf(keyed, isFull) });
}

export const withColumns = ({ id: _id, ...schema }: TableSchema, columns: readonly ColumnSchema[]): TableSchema =>
  identifySchema({ ...schema, columns });

export const renamed = ({ id: _id, ...schema }: TableSchema, table: string): TableSchema => identifySchema({ ...schema, table });

/** A held key's id: the only column of the key. */
export const heldId = ({ text }: { readonly text: string }): number => Number(/:"?(-?\d+)/.exec(text)?.[1]);

export const isKeyed = ({ key }: TableSchema): boolean => key.length > 0;

/** The row as the table's columns are now, as wire JSON. */
export function rowJson({ columns }: TableSchema, row: Row, unsent: ReadonlySet<number> = new Set()): string {
  const members = columns
    .filter(({ attnum }) => !unsent.has(attnum))
    .map(({ name, attnum }) => `${JSON.stringify(name)}:${JSON.stringify(row.get(attnum) ?? null)}`);
  return `{${members.join(",")}}`;
}

export function keyJson(schema: TableSchema, row: Row): string | null {
  if (!isKeyed(schema)) return null;
  const [column] = schema.columns;
  return `{${JSON.stringify(column?.name)}:${row.get(ID)}}`;
}

/** The rows of a table. One without a key may have the same row twice. */
export class Rows {
  #rows: Row[];

  constructor(rows: readonly Row[] = []) {
    this.#rows = [...rows];
  }

  get all(): readonly Row[] {
    return this.#rows;
  }

  apply({ op, schema, before, after }: RowChange): void {
    if (op === "t") this.#rows = [];
    if (before !== null) {
      const same = isKeyed(schema) ? (row: Row) => row.get(ID) === before.get(ID) : (row: Row) => textOf(row) === textOf(before);
      const at = this.#rows.findIndex(same);
      if (at === -1) throw new Error(`the model has no row ${textOf(before)}`);
      this.#rows.splice(at, 1);
    }
    if (after !== null) this.#rows.push(after);
  }
}

/** Without what is NULL: a column that was added later is as good as one that is not there. */
export const textOf = (row: Row): string =>
  JSON.stringify([...row].filter(([, value]) => value !== null).sort(([a], [b]) => a - b));

/** As a replica that has it should: `columns` alone, in order of their text. */
export const tableText = (rows: readonly Row[], attnums: ReadonlySet<number>): string =>
  rows
    .map((row) => textOf(new Map([...row].filter(([attnum]) => attnums.has(attnum)))))
    .sort()
    .join("\n");

/** What the event needs of a change, under the schema that its table has there. */
export function eventRows({ op, schema, before, after, unsent }: RowChange): Pick<ChangeEvent, "key" | "before" | "after"> {
  if (op === "t") return { key: null, before: null, after: null };
  const old = before === null ? null : schema.identity === "full" ? rowJson(schema, before) : keyJson(schema, before);
  return {
    key: keyJson(schema, (after ?? before) as Row),
    before: op === "c" ? null : old,
    after: after === null ? null : rowJson(schema, after, unsent),
  };
}
