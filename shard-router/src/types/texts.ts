import { asText, same, type TypeRow } from "./type-row.ts";

const TEXTS = [
  "",
  "é😀'\"\\",
  "\u0001\u001f\u007f\t\n\r",
  "NULL",
  "null",
  "{}",
  "$1 ? :a",
  " x ",
  "\u2028",
  "'; DROP TABLE x; --",
  "/* */ # `",
];

export const TEXTS_AND_BYTES: readonly TypeRow[] = [
  {
    group: "Texts and bytes",
    types: { text: 25 },
    columns: asText,
    literals: [...TEXTS, "x".repeat(100_000)],
  },
  {
    group: "Texts and bytes",
    types: { "character varying": 1043 },
    columns: asText,
    literals: TEXTS,
  },
  {
    group: "Texts and bytes",
    types: { "character varying(10)": 1043, "character varying(255)": 1043 },
    columns: { ...asText, mysql: mysqlVarchar },
    literals: ["", "0123456789", "a   ", "é😀é😀é😀é😀é😀"],
    note: "of the same length on MySQL and MariaDB up to 255 characters",
  },
  {
    group: "Texts and bytes",
    types: { "character(5)": 1042 },
    columns: asText,
    literals: ["", "ab", "é😀"],
    note: "with its blanks",
  },
  { group: "Texts and bytes", types: { '"char"': 18 }, columns: asText, literals: ["", "x"] },
  { group: "Texts and bytes", types: { name: 19 }, columns: asText, literals: ["pg_class", "é".repeat(31)] },
  {
    group: "Texts and bytes",
    types: { bytea: 17 },
    columns: { postgres: same, mysql: "LONGBLOB", sqlite: "BLOB", duckdb: "BLOB" },
    literals: ["", "\\x00ff4142", "\\x0a", `\\x${"005c27ff".repeat(25_000)}`],
  },
];

/** Longer ones would make a row's declared size exceed what InnoDB takes. */
const MAX_VARCHAR = 255;

function mysqlVarchar({ type }: { readonly type: string }): string {
  const length = Number(/\((\d+)\)$/.exec(type)?.[1] ?? Number.POSITIVE_INFINITY);
  return length <= MAX_VARCHAR ? `VARCHAR(${length})` : "TEXT";
}
