import type { TableSchema } from "@cascade/shared/table-schema";
import { quoteName, quoteTableName } from "@cascade/shared/topic";
import type { KeyTexts, RowRange } from "../snapshot/table-reader.ts";
import type { Relation } from "./catalog.ts";
import { keyJsonSql, rowJsonSql } from "./row-sql.ts";
import type { ColumnNow, TableNow } from "./table-now.ts";

export interface ChunkQuery {
  readonly text: string;
  readonly values: readonly unknown[];
}

interface KeyColumn extends ColumnNow {
  /** Its column in SQL, without its domain: a domain over an enum has no operators of its own. */
  readonly sql: string;
}

/** What a query over a table's rows is made from, valid until the table is altered. */
export class ChunkSql {
  readonly #rows: string;
  readonly #from: string;
  readonly #key: readonly KeyColumn[];
  readonly #orderBy: string;
  readonly schema: TableSchema;

  constructor({ schema, kind }: Pick<Relation, "schema" | "kind">, { columns }: TableNow) {
    this.schema = schema;
    // Children by inheritance are tables of their own; partitions are the table.
    this.#from = `${kind === "partitioned" ? "" : "ONLY "}${quoteTableName(schema)} AS t`;
    this.#rows = `${schema.key.length === 0 ? "NULL" : keyJsonSql(schema)}, ${rowJsonSql(schema)}`;
    this.#key = schema.key.map((name) => {
      const column = schema.columns.find((candidate) => candidate.name === name);
      const now = columns.get(column?.attnum ?? 0);
      if (column === undefined || now === undefined) throw new TypeError("a key column that its table does not have");
      const cast = now.typeOid === column.typeOid ? "" : `::${now.type}`;
      return { ...now, sql: `t.${quoteName(name)}${cast}` };
    });
    this.#orderBy = schema.key.map((name) => `t.${quoteName(name)}`).join(", ");
  }

  /** The next `limit` rows after `after` in key order. */
  range(after: KeyTexts | null, limit: number, range: RowRange): ChunkQuery {
    const values: unknown[] = [];
    const conditions = [
      ...(after === null ? [] : [this.#compare(">", after, values)]),
      ...(range.from === null ? [] : [this.#compare(">=", range.from, values)]),
      ...(range.to === null ? [] : [this.#compare("<=", range.to, values)]),
      ...(range.where === null ? [] : [`(${range.where}\n)`]), // it may end in a comment
    ];
    const where = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
    const text = `SELECT ${this.#rows} FROM ${this.#from}${where} ORDER BY ${this.#orderBy} LIMIT ${limit}`;
    return { text, values };
  }

  /** The rows that have these keys now. */
  rows(keys: readonly KeyTexts[], { where }: RowRange): ChunkQuery {
    const arrays = this.#key.map((_, at) => `$${at + 1}::text[]`).join(", ");
    const names = this.#key.map((_, at) => `k${at}`).join(", ");
    const joins = this.#key.map(
      ({ sql, type, operatorSchema }, at) => `${sql} ${operator("=", operatorSchema)} q.k${at}::${type}`,
    );
    const text = `SELECT ${this.#rows} FROM unnest(${arrays}) AS q(${names}) JOIN ${this.#from} ON ${joins.join(" AND ")}${where === null ? "" : ` WHERE (${where}\n)`}`;
    return { text, values: this.schema.key.map((name) => keys.map((key) => key[name])) };
  }

  /** All rows, in no order. */
  all(): ChunkQuery {
    return { text: `SELECT ${this.#rows} FROM ${this.#from}`, values: [] };
  }

  #compare(sign: ">" | ">=" | "<=", texts: KeyTexts, values: unknown[]): string {
    const names = this.schema.key.filter((name) => texts[name] !== undefined);
    const terms = names.map((name) => {
      const column = this.#key[this.schema.key.indexOf(name)] as KeyColumn;
      values.push(texts[name]);
      return { column, value: `$${values.length}::${column.type}` };
    });
    const [first] = terms;
    if (first === undefined) return "true";
    const spaces = new Set(terms.map(({ column }) => column.operatorSchema));
    if (terms.length === 1) return `${first.column.sql} ${operator(sign, first.column.operatorSchema)} ${first.value}`;
    if (spaces.size > 1) return expanded(sign, terms);
    const [left, right] = [terms.map(({ column }) => column.sql), terms.map(({ value }) => value)];
    return `ROW(${left.join(", ")}) ${operator(sign, first.column.operatorSchema)} ROW(${right.join(", ")})`;
  }
}

interface Term {
  readonly column: KeyColumn;
  readonly value: string;
}

/** A row comparison takes one operator for all of its columns: where theirs come from several schemas it is written out. */
function expanded(sign: ">" | ">=" | "<=", terms: readonly Term[]): string {
  const strict = sign === "<=" ? "<" : ">";
  const compare = (what: string, { column, value }: Term) => `${column.sql} ${operator(what, column.operatorSchema)} ${value}`;
  const cases = terms.map((term, at) => {
    const equal = terms.slice(0, at).map((before) => compare("=", before));
    const last = at === terms.length - 1;
    return `(${[...equal, compare(last ? sign : strict, term)].join(" AND ")})`;
  });
  return `(${cases.join(" OR ")})`;
}

const operator = (sign: string, schema: string): string => `OPERATOR(${quoteName(schema)}.${sign})`;
