import type { WireRow } from "@cascade/shared/change-event";
import type { ColumnSchema } from "@cascade/shared/table-schema";
import type { DialectName, ReplicaTable, SqlValue, Statement } from "../dialect.ts";
import { PG_TYPE } from "../row-shape.ts";
import { quoteMysql } from "./mysql.ts";
import { parseMysqlType } from "./mysql-types.ts";
import { comparable } from "./mysql-values.ts";
import { quote } from "./sql.ts";

/**
 * What is read of a replica's rows to tell whose they are, and how those are deleted that are another's. Pure. A row is deleted only while it
 * still has what was read of it: its key, and what it is divided by. Whoever has changed that meanwhile has judged it too.
 */

/** What was read of a row, or of all rows of a table without a key that have the same in the columns by which it is divided. */
export interface PartRow {
  /** As the engine gives it, and takes it back. */
  readonly values: readonly SqlValue[];
  /** What it is divided by, as main-db writes it. */
  readonly wire: WireRow;
  /** How many rows it stands for. */
  readonly count: number;
}

export type Found = Readonly<Record<string, unknown>>;
export type Query = Pick<Statement, "text"> & { readonly values: readonly SqlValue[] };

/** What the engines say differently. */
interface Words {
  quoted(name: string): string;
  /** The column's value in a form that loses nothing. */
  readonly read: (column: string, type: string) => string;
  /** The form read, as a value to be compared with the column: the nth parameter, from 1 on. */
  readonly parameter: (type: string, at: number) => string;
  /** Undoes what the client needs. */
  readonly value?: (found: unknown, type: string) => SqlValue;
  /** Beyond the form read, as main-db writes it. */
  readonly wire: (text: string, type: string, source: ColumnSchema) => string;
  readonly drop: (dropping: Dropping) => readonly Statement[];
}

interface Dropping {
  readonly words: Words;
  readonly table: ReplicaTable;
  readonly columns: readonly Column[];
  /** By a key, by which each row is found quickly. */
  readonly isKeyed: boolean;
  /** In which columns all the rows have NULL. */
  readonly isNull: readonly boolean[];
  readonly rows: readonly (readonly SqlValue[])[];
}

interface Column {
  readonly name: string;
  /** As SQL. */
  readonly sql: string;
  readonly type: string;
  readonly source: ColumnSchema;
}

/** In one statement that names each of its rows. */
const ROWS_IN_TEXT = 500;

export class PartRows {
  readonly #words: Words;
  readonly #table: ReplicaTable;
  readonly #dividedBy: readonly string[];
  readonly #columns: readonly Column[];
  /** Of the columns, so many put the rows in order. */
  readonly #ordered: number;

  /** `dividedBy`: the columns that say whose a row is. */
  constructor(dialect: DialectName, table: ReplicaTable, dividedBy: readonly string[]) {
    this.#words = WORDS[dialect];
    this.#table = table;
    this.#dividedBy = dividedBy;
    const { key } = table.source;
    const names = [...key, ...dividedBy.filter((name) => !key.includes(name))];
    this.#ordered = key.length === 0 ? names.length : key.length;
    const types = new Map(table.columns.map(({ name, type }) => [name, type]));
    this.#columns = names.map((name) => {
      const source = table.source.columns.find((column) => column.name === name);
      const type = types.get(name);
      if (source === undefined || type === undefined) throw new TypeError(`${table.sqlName} has no column ${name}`);
      return { name, sql: `r.${this.#words.quoted(name)}`, type, source };
    });
  }

  get #isKeyed(): boolean {
    return this.#table.source.key.length > 0;
  }

  /** The first rows after that one, in an order that nothing but the rows themselves decides. */
  page(after: PartRow | null, limit: number): Query {
    const values: SqlValue[] = [];
    const columns = this.#columns.slice(0, this.#ordered);
    const read = this.#columns.map(({ sql, type }, at) => `${this.#words.read(sql, type)} AS c${at}`);
    const where = after === null ? "" : ` WHERE ${this.#after(columns, after.values, values)}`;
    const from = `FROM ${this.#table.sqlName} AS r${where}`;
    if (this.#isKeyed) {
      const order = columns.map(({ sql }) => sql).join(", ");
      return { text: `SELECT ${read.join(", ")} ${from} ORDER BY ${order} LIMIT ${limit}`, values };
    }
    // NULL comes last by being said: the engines do not agree where it comes by itself.
    const order = columns.flatMap(({ sql }) => [`(${sql} IS NULL)`, sql]).join(", ");
    const groups = columns.map(({ sql }) => sql).join(", ");
    return {
      text: `SELECT ${read.join(", ")}, count(*) AS n ${from} GROUP BY ${groups} ORDER BY ${order} LIMIT ${limit}`,
      values,
    };
  }

  read(found: Found): PartRow {
    const { value = (given: unknown) => given as SqlValue } = this.#words;
    const values = this.#columns.map(({ type }, at) => {
      const given = found[`c${at}`] ?? null;
      return given === null ? null : value(given, type);
    });
    const wire = Object.fromEntries(
      this.#dividedBy.map((name) => {
        const at = this.#columns.findIndex((column) => column.name === name);
        const { type, source } = this.#columns[at] as Column;
        const read = values[at] ?? null;
        return [name, read === null ? null : this.#words.wire(String(read), type, source)];
      }),
    );
    return { values, wire, count: this.#isKeyed ? 1 : Number(found["n"]) };
  }

  drop(rows: readonly PartRow[]): readonly Statement[] {
    const patterns = Map.groupBy(rows, ({ values }) => values.map((value) => Number(value === null)).join(""));
    return [...patterns].flatMap(([pattern, alike]) =>
      this.#words.drop({
        words: this.#words,
        table: this.#table,
        columns: this.#columns,
        isKeyed: this.#isKeyed,
        isNull: [...pattern].map((digit) => digit === "1"),
        rows: alike.map(({ values }) => values),
      }),
    );
  }

  #after(columns: readonly Column[], after: readonly SqlValue[], values: SqlValue[]): string {
    const [column, ...others] = columns;
    const [value, ...rest] = after;
    if (column === undefined || value === undefined) throw new TypeError("a row comes after no column");
    const { sql, type } = column;
    const given = (): string => this.#words.parameter(type, values.push(value));
    if (value === null) return others.length === 0 ? "1 = 0" : `(${sql} IS NULL AND ${this.#after(others, rest, values)})`;
    const beyond = (): string => (this.#isKeyed ? `${sql} > ${given()}` : `(${sql} > ${given()} OR ${sql} IS NULL)`);
    if (others.length === 0) return beyond();
    // Not found by the key's index with an OR alone. Parameters are counted in the order in which they stand.
    const atLeast = this.#isKeyed ? `${sql} >= ${given()} AND ` : "";
    return `(${atLeast}(${beyond()} OR (${sql} = ${given()} AND ${this.#after(others, rest, values)})))`;
  }
}

const text = (given: string): string => given;
const nullsOf = ({ columns, isNull }: Dropping): readonly string[] =>
  columns.filter((_, at) => isNull[at]).map(({ sql }) => `${sql} IS NULL`);
const givenOf = ({ columns, isNull }: Dropping): readonly (Column & { readonly at: number })[] =>
  columns.map((column, at) => ({ ...column, at })).filter(({ at }) => !isNull[at]);

/** One text, with the values of each row in turn. */
function dropEach(dropping: Dropping, from: string): readonly Statement[] {
  const given = givenOf(dropping);
  const same = given.map(({ sql, type }, at) => `${sql} = ${dropping.words.parameter(type, at + 1)}`);
  return [
    {
      text: `${from} WHERE ${[...same, ...nullsOf(dropping)].join(" AND ")}`,
      parameterSets: dropping.rows.map((row) => given.map(({ at }) => row[at] as SqlValue)),
    },
  ];
}

/** All in one pass over the table. */
function dropTogether(dropping: Dropping, from: string, tuples: (of: readonly string[]) => string): readonly Statement[] {
  const given = givenOf(dropping);
  if (given.length === 0) return [{ text: `${from} WHERE ${nullsOf(dropping).join(" AND ")}`, parameterSets: [[]] }];
  const left = given.length === 1 ? (given[0]?.sql as string) : `(${given.map(({ sql }) => sql).join(", ")})`;
  const statements: Statement[] = [];
  for (let first = 0; first < dropping.rows.length; first += ROWS_IN_TEXT) {
    const values: SqlValue[] = [];
    const rows = dropping.rows
      .slice(first, first + ROWS_IN_TEXT)
      .map((row) => given.map(({ type, at }) => dropping.words.parameter(type, values.push(row[at] as SqlValue))).join(", "));
    statements.push({
      text: `${from} WHERE ${[`${left} IN ${tuples(rows)}`, ...nullsOf(dropping)].join(" AND ")}`,
      parameterSets: [values],
    });
  }
  return statements;
}

const asValues = (rows: readonly string[]): string => `(VALUES ${rows.map((row) => `(${row})`).join(", ")})`;

const POSTGRES: Words = {
  quoted: quote,
  read: (column) => `${column}::text`,
  parameter: (type, at) => `$${at}::${type}`,
  wire: text,
  drop: (dropping) => {
    const given = givenOf(dropping);
    const from = `DELETE FROM ${dropping.table.sqlName} AS r`;
    if (given.length === 0) return [{ text: `${from} WHERE ${nullsOf(dropping).join(" AND ")}`, parameterSets: [[]] }];
    const rows = `json_to_recordset($1::text::json) AS x(${given.map(({ at }) => `c${at} text`).join(", ")})`;
    const same = given.map(({ sql, type, at }) => `${sql} = x.c${at}::${type}`);
    const json = JSON.stringify(dropping.rows.map((row) => Object.fromEntries(given.map(({ at }) => [`c${at}`, row[at]]))));
    const statement = {
      text: `${from} USING ${rows} WHERE ${[...same, ...nullsOf(dropping)].join(" AND ")}`,
      parameterSets: [[json]],
    };
    // Without a key each value would take a pass over the table of its own: the session's plans go by the key's index (postgres-session.ts).
    return dropping.isKeyed ? [statement] : [{ text: "SET LOCAL enable_hashjoin = on", parameterSets: [[]] }, statement];
  },
};

const MYSQL: Words = {
  quoted: quoteMysql,
  read: (column, type) => {
    const { kind } = parseMysqlType(type);
    return kind === "text" || kind === "bytes" ? column : `CAST(${column} AS CHAR)`;
  },
  parameter: (type) => comparable(parseMysqlType(type)),
  value: (found, type) =>
    found instanceof Uint8Array && parseMysqlType(type).kind !== "bytes"
      ? Buffer.from(found).toString("utf8")
      : (found as SqlValue),
  wire: (read, type, { typeOid }) => {
    const { kind } = parseMysqlType(type);
    if (typeOid === PG_TYPE.bool) return booleanOf(read);
    if (kind !== "datetime" && kind !== "time") return read;
    const trimmed = read.includes(".") ? read.replace(/\.?0+$/, "") : read;
    return kind === "datetime" && typeOid === PG_TYPE.timestamptz ? `${trimmed}+00` : trimmed;
  },
  drop: (dropping) => {
    // Neither knows another name for the table of a DELETE everywhere.
    const named = { ...dropping, columns: dropping.columns.map((column) => ({ ...column, sql: quoteMysql(column.name) })) };
    const from = `DELETE FROM ${dropping.table.sqlName}`;
    const asTuples = (rows: readonly string[]): string => {
      const isSingle = givenOf(named).length === 1;
      return `(${rows.map((row) => (isSingle ? row : `(${row})`)).join(", ")})`;
    };
    return dropping.isKeyed ? dropEach(named, from) : dropTogether(named, from, asTuples);
  },
};

const SQLITE: Words = {
  quoted: quote,
  // The driver reads a number of more than 53 bits as another.
  read: (column, type) => (type === "INTEGER" ? `CAST(${column} AS TEXT)` : column),
  parameter: (type) => (type === "INTEGER" ? "CAST(? AS INTEGER)" : "?"),
  wire: (read, type, { typeOid }) => (typeOid === PG_TYPE.bool && type === "INTEGER" ? booleanOf(read) : read),
  drop: (dropping) => {
    const from = `DELETE FROM ${dropping.table.sqlName} AS r`;
    return dropping.isKeyed ? dropEach(dropping, from) : dropTogether(dropping, from, asValues);
  },
};

/** Before every text that is read: the client drops a byte order mark at its beginning. */
const MARK = "=";

const DUCKDB: Words = {
  quoted: quote,
  read: (column, type) => {
    const plain = `CAST(${column} AS VARCHAR)`;
    // Not by its own text, which rounds the years near DuckDB's end.
    const utc = `CAST(make_timestamp(epoch_us(${column})) AS VARCHAR) || '+00'`;
    const read = type === "TIMESTAMP WITH TIME ZONE" ? `CASE WHEN isinf(${column}) THEN ${plain} ELSE ${utc} END` : plain;
    return `'${MARK}' || ${read}`;
  },
  parameter: (type, at) => `CAST($${at} AS ${type})`,
  value: (found) => String(found).slice(MARK.length),
  wire: (read, _type, { typeOid }) => {
    // DuckDB puts the era behind the date, PostgreSQL behind all.
    if (CALENDAR.has(typeOid) && read.includes(" (BC)")) return `${read.replace(" (BC)", "")} BC`;
    return typeOid === PG_TYPE.numeric ? read.replace(/^(-?)\./, "$10.") : read;
  },
  drop: (dropping) => dropTogether(dropping, `DELETE FROM ${dropping.table.sqlName} AS r`, asValues),
};

const WORDS: Readonly<Record<DialectName, Words>> = {
  postgres: POSTGRES,
  mysql: MYSQL,
  mariadb: MYSQL,
  sqlite: SQLITE,
  duckdb: DUCKDB,
};

const CALENDAR: ReadonlySet<number> = new Set([PG_TYPE.date, PG_TYPE.timestamp, PG_TYPE.timestamptz]);

const booleanOf = (read: string): string => (read === "1" ? "true" : read === "0" ? "false" : read);
