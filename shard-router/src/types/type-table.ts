import { type ColumnSchema, FIRST_USER_OID } from "@cascade/shared/table-schema";
import { NUMBERS } from "./numbers.ts";
import { NETWORKS_AND_GEOMETRY, OTHERS, STRUCTURES } from "./others.ts";
import { TEXTS_AND_BYTES } from "./texts.ts";
import { TIMES } from "./times.ts";
import type { TableDialect, TypeRow } from "./type-row.ts";

/**
 * Every built-in type of PostgreSQL, and what it is on every dialect: drives the DDL of the tables that Cascade makes, docs/types.md
 * (`npm run docs`) and the tests, which send every literal through every engine and read it back.
 */
export const TYPE_TABLE: readonly TypeRow[] = [
  ...NUMBERS,
  ...TEXTS_AND_BYTES,
  ...TIMES,
  ...STRUCTURES,
  ...NETWORKS_AND_GEOMETRY,
  ...OTHERS,
];

const rowName = (typeOid: number, type: string): string => `${typeOid}${/\(/.test(type) ? "()" : ""}`;

const ROWS: ReadonlyMap<string, TypeRow> = new Map(
  TYPE_TABLE.flatMap((row) => Object.entries(row.types).map(([type, oid]) => [rowName(oid, type), row] as const)),
);

/** Whose values name objects or roles of the source's own: arrays of such types have no row. */
const NAMES_OBJECTS = /^(?:reg[a-z]+|aclitem)\b/;

/**
 * The type of the column that Cascade makes for a source column; TEXT is whatever the dialect holds any text in. Arrays follow their
 * elements; types of the source's own (enums, composites, extensions' types) are text, for the replica need not know them.
 */
export function columnTypeFor(dialect: TableDialect, column: ColumnSchema): string {
  const { typeOid, type } = column;
  if (typeOid >= FIRST_USER_OID) return "TEXT";
  const row = ROWS.get(rowName(typeOid, type)) ?? ROWS.get(String(typeOid));
  if (row === undefined) return dialect === "postgres" && !NAMES_OBJECTS.test(type) ? type : "TEXT";
  const rule = row.columns[dialect];
  return typeof rule === "string" ? rule : rule(column);
}
