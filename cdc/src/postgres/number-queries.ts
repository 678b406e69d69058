import type { ColumnSchema } from "@cascade/shared/table-schema";
import { quoteName } from "@cascade/shared/topic";
import type { ColumnNow, TableNow } from "./table-now.ts";
import { losesSpecialNumbers } from "./wire-value.ts";

/** SQL that asks main-db for the numbers that wal2json lost. Pure. */
export interface NumberQuery {
  readonly text: string;
  readonly values: readonly unknown[];
}

const BYTEA = 17;
const SPECIAL = "('NaN', 'Infinity', '-Infinity')";

/**
 * Whether the names of the query are still those of the table and columns meant: two columns may have swapped theirs. Sound, because a
 * statement holds its table's lock before it takes its snapshot, and a rename needs that lock.
 */
const NAMED = `to_regclass($1) = $2::oid AND (
    SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = $2::oid AND attnum = ANY($3::int[]) AND NOT attisdropped
  ) = $4::text[] AS named`;

function namedValues({ oid, sqlName, columns }: TableNow, used: readonly number[]): unknown[] {
  const attnums = [...used].sort((a, b) => a - b);
  return [sqlName, oid, attnums, attnums.map((attnum) => columns.get(attnum)?.name)];
}

export interface RereadRequest {
  readonly table: TableNow;
  readonly key: readonly ColumnSchema[];
  /** Columns to read. Every one of them, and of the key, is in `table`. */
  readonly columns: readonly ColumnSchema[];
  /** JSON array of keys as they are on the wire. */
  readonly keys: string;
  /** Whether rows are wanted whatever they hold, or for a special number alone. */
  readonly whole: boolean;
}

/**
 * One row: `named`, and `found`, null or `[[n, [text or null, ...]], ...]`: of the nth key, from 1, the `columns` in their order. Rows
 * are found by the key's index.
 */
export function rereadQuery({ table, key, columns, keys, whole }: RereadRequest): NumberQuery {
  const of = ({ attnum }: ColumnSchema): ColumnNow => table.columns.get(attnum) as ColumnNow;
  const same = key.map((column, at) => {
    const { name, type, operatorSchema } = of(column);
    const wire = `r.key->>($7::text[])[${at + 1}]`;
    const value = column.typeOid === BYTEA ? `decode(${wire}, 'base64')` : `CAST(${wire} AS ${type})`;
    // Not a cast to the index: of a domain only the label changes.
    return `CAST(t.${quoteName(name)} AS ${type}) OPERATOR(${quoteName(operatorSchema)}.=) ${value}`;
  });
  // As text, so that a column that has another type by now can be asked too.
  const texts = columns.map((column) => `t.${quoteName(of(column).name)}::text`);
  return {
    text: `SELECT ${NAMED}, (
  SELECT json_agg(json_build_array(r.n, ARRAY[${texts.join(", ")}]))
    FROM json_array_elements($5::json) WITH ORDINALITY AS r(key, n)
    JOIN ${table.sqlName} AS t ON ${same.join(" AND ")}
   WHERE $6::boolean OR ${texts.map((text) => `${text} IN ${SPECIAL}`).join(" OR ")}) AS found`,
    values: [
      ...namedValues(table, [...new Set([...key, ...columns].map(({ attnum }) => attnum))]),
      keys,
      whole,
      key.map(({ name }) => name),
    ],
  };
}

export interface SearchRequest {
  readonly table: TableNow;
  /** Every one of them is in `table`. */
  readonly columns: readonly ColumnSchema[];
  readonly txIds: readonly number[];
}

/**
 * One row: `named`, and `found`: per column, whether any row that one of these transactions, or a later one, wrote holds a special
 * number. A CHECK constraint that excludes them, or a partial index on them, spares the scan (decision 0014).
 */
export function searchQuery({ table, columns, txIds }: SearchRequest): NumberQuery {
  const searches = columns.map(({ attnum }) => {
    const { name, typeOid } = table.columns.get(attnum) as ColumnNow;
    // Compared in its own type, as constraints and indexes are; in another one, which it may have by now, as text.
    const value = losesSpecialNumbers(typeOid) ? `t.${quoteName(name)}` : `t.${quoteName(name)}::text`;
    return `EXISTS (SELECT FROM ${table.sqlName} AS t WHERE ${value} IN ${SPECIAL} AND age(t.xmin) <= (SELECT max(age(x::xid)) FROM unnest($5::text[]) AS x))`;
  });
  return {
    text: `SELECT ${NAMED}, ARRAY[${searches.join(",\n ")}] AS found`,
    values: [
      ...namedValues(
        table,
        columns.map(({ attnum }) => attnum),
      ),
      txIds.map(String),
    ],
  };
}
