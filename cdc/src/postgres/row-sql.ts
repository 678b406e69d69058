import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { quoteName } from "@cascade/shared/topic";
import { wireKindOf } from "./wire-value.ts";

/**
 * SQL that makes a row's wire JSON on the server, byte for byte what `TableDecoder` makes of wal2json's text of it: the same values by the
 * same output functions, the same order of columns.
 */

/** concat() takes 100 arguments at most (FUNC_MAX_ARGS). */
const MAX_ARGUMENTS = 90;

/** Types whose text holds nothing that JSON escapes: int8, oid, date, time(tz), timestamp(tz), numeric, uuid, interval. */
const PLAIN_TEXT: ReadonlySet<number> = new Set([20, 26, 1082, 1083, 1266, 1114, 1184, 1700, 2950, 1186]);
/** text, varchar: `to_json` takes them as they are. */
const TEXT: ReadonlySet<number> = new Set([25, 1043]);

/** The text of one row, of the columns of `schema` in their order. */
export const rowJsonSql = ({ columns }: TableSchema): string => objectSql(columns);

/** The text of its key, in the key's order. */
export const keyJsonSql = ({ columns, key }: TableSchema): string =>
  objectSql(key.map((name) => columns.find((column) => column.name === name) as ColumnSchema));

function objectSql(columns: readonly ColumnSchema[]): string {
  const parts: string[] = [];
  let literal = "{";
  for (const [at, column] of columns.entries()) {
    const { before, sql, after } = valueSql(column);
    parts.push(literalSql(`${literal}${at === 0 ? "" : ","}${JSON.stringify(column.name)}:${before}`), sql);
    literal = after;
  }
  parts.push(literalSql(`${literal}}`));
  return concatSql(parts);
}

/** Nested where one call cannot take all. */
function concatSql(parts: readonly string[]): string {
  if (parts.length <= MAX_ARGUMENTS) return `concat(${parts.join(", ")})`;
  const groups: string[] = [];
  for (let at = 0; at < parts.length; at += MAX_ARGUMENTS)
    groups.push(`concat(${parts.slice(at, at + MAX_ARGUMENTS).join(", ")})`);
  return concatSql(groups);
}

/** With `standard_conforming_strings` on, as the reader's session has it. */
export const literalSql = (text: string): string => `'${text.replaceAll("'", "''")}'`;

interface ValueSql {
  /** Around the value, the same in every row. */
  readonly before: string;
  readonly sql: string;
  readonly after: string;
}

function valueSql(column: ColumnSchema): ValueSql {
  const name = `t.${quoteName(column.name)}`;
  const bare = (sql: string): ValueSql => ({ before: "", sql, after: "" });
  const orNull = (sql: string): ValueSql => bare(`CASE WHEN ${name} IS NOT DISTINCT FROM NULL THEN 'null' ELSE ${sql} END`);
  const always = !column.nullable;
  switch (wireKindOf(column.typeOid)) {
    case "boolean":
      return bare(`CASE WHEN ${name} THEN 'true' WHEN NOT ${name} THEN 'false' ELSE 'null' END`);
    case "number":
      if (column.typeOid === 700 || column.typeOid === 701) {
        return orNull(
          `CASE WHEN ${name} IN ('NaN', 'Infinity', '-Infinity') THEN concat('"', ${name}, '"') ELSE concat(${name}) END`,
        );
      }
      return always ? bare(name) : orNull(`concat(${name})`);
    case "bytea": {
      const base64 = `translate(encode(${name}, 'base64'), E'\\n', '')`;
      return always ? { before: '"', sql: base64, after: '"' } : orNull(`concat('"', ${base64}, '"')`);
    }
    case "text":
      if (PLAIN_TEXT.has(column.typeOid)) {
        return always ? { before: '"', sql: name, after: '"' } : orNull(`concat('"', ${name}, '"')`);
      }
      if (TEXT.has(column.typeOid)) return bare(`coalesce(to_json(${name}::text)::text, 'null')`);
      // By the type's own output function: a cast to text strips the blanks of character(n).
      return orNull(`to_json(concat(${name}))::text`);
  }
}
