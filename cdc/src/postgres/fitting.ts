import { FIRST_USER_OID, identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";
import type { KnownTables } from "./known-tables.ts";
import type { Relation } from "./relation.ts";
import { Reader } from "./relation-book.ts";
import { type DecodedRow, TableDecoder, type WalColumn } from "./table-decoder.ts";
import type { WalRow } from "./wal2json.ts";
import { wireKindOf } from "./wire-value.ts";

/** A row and the reader that it fits. */
export interface Fit {
  readonly reader: Reader;
  readonly decoded: DecodedRow;
}

/** Finds the version of a table that a row was written under, by what the row looks like. For rows that do not fit what is known: rare. */
export class Fitting {
  readonly #tables: KnownTables;
  readonly #losesNumbers: boolean;

  constructor(tables: KnownTables, losesNumbers: boolean) {
    this.#tables = tables;
    this.#losesNumbers = losesNumbers;
  }

  fit(row: WalRow, relation: Relation, former: boolean): Fit | null {
    const reader = new Reader(relation, former);
    const decoder = new TableDecoder(relation, this.#losesNumbers);
    reader.decoder = decoder;
    const decoded = decoder.decode(row);
    return decoded === null ? null : { reader, decoded };
  }

  /** The relation in the version that it is known in, its columns in the order and of the types (domains) that the row has them. */
  adapted(row: WalRow, relation: Relation): Fit | null {
    return this.#adapted(row, relation, relation.schema, false);
  }

  /** Rows of the relation as it was: in memory, in `<prefix>.schemas`, or before its newest columns were added. */
  formerOf(row: WalRow, relation: Relation): Fit | null {
    const remembered = this.#tables.former(relation.name)?.relation;
    const fits = remembered === undefined ? null : this.fit(row, remembered, true);
    if (fits !== null) return fits;
    for (const schema of this.#tables.history.schemasOf(relation.schema.oid)) {
      const adapted = this.#adapted(row, relation, schema, true);
      if (adapted !== null) return adapted;
    }
    for (const version of shorterVersions(relation)) {
      const shorter = this.fit(row, version, true);
      if (shorter !== null) return shorter;
    }
    return null;
  }

  /** Rows of a name that no table has any more. */
  gone(row: WalRow): Fit | null {
    const name = { schema: row.schema, table: row.table };
    const remembered = this.#tables.former(name)?.relation;
    const fits = remembered === undefined ? null : this.fit(row, remembered, true);
    if (fits !== null) return fits;
    for (const schema of this.#tables.history.schemasNamed(name)) {
      const { capture } = this.#tables;
      if (!capture.filter.matches(schema)) return null;
      const relation: Relation = {
        oid: schema.oid,
        name,
        kind: "table",
        topic: topicOf(capture.prefix, schema),
        schema,
        walColumns: [],
        identityColumns: null,
      };
      const adapted = this.#adapted(row, relation, schema, true);
      if (adapted !== null) return adapted;
    }
    return null;
  }

  #adapted(row: WalRow, relation: Relation, schema: TableSchema, former: boolean): Fit | null {
    const walColumns = walColumnsOf(row, schema);
    if (walColumns === null) return null;
    const topic = topicOf(this.#tables.capture.prefix, schema);
    return this.fit(row, { ...relation, schema, topic, walColumns }, former);
  }
}

interface SentColumn {
  readonly name: string;
  readonly typeoid: number;
  readonly value: unknown;
}

/** The schema's columns as the row sends them; null when one of the row's is not the schema's. */
function walColumnsOf({ message, action }: WalRow, schema: TableSchema): readonly WalColumn[] | null {
  if (action === "T") return schema.columns.map(({ name, typeOid }) => ({ name, declaredTypeOid: typeOid }));
  const { columns = [], identity = [] } = JSON.parse(String(message)) as { columns?: SentColumn[]; identity?: SentColumn[] };
  const known = new Map(schema.columns.map(({ name, typeOid }) => [name, typeOid]));
  const sent = new Map<string, number>();
  for (const column of [...columns, ...identity]) {
    const typeOid = known.get(column.name);
    if (typeOid === undefined || !isOfType(column, typeOid)) return null;
    sent.set(column.name, column.typeoid >>> 0);
  }
  const unsent = [...known].filter(([name]) => !sent.has(name));
  return [...sent, ...unsent].map(([name, declaredTypeOid]) => ({ name, declaredTypeOid }));
}

const INTEGERS_AND_NUMERIC: ReadonlySet<number> = new Set([20, 26, 1700]);

/** Whether the column may be of that base type: its own OID, or a user's that may be a domain's, by the look of the value. */
function isOfType({ typeoid, value }: SentColumn, baseOid: number): boolean {
  const declared = typeoid >>> 0;
  if (declared === baseOid) return true;
  if (declared < FIRST_USER_OID) return false;
  if (value === null) return true;
  const text = String(value);
  switch (wireKindOf(baseOid)) {
    case "boolean":
      return text === "t" || text === "f";
    case "bytea":
      return text.startsWith("\\x");
    case "number":
      return isNumber(text);
    case "text":
      return !INTEGERS_AND_NUMERIC.has(baseOid) || isNumber(text);
  }
}

const isNumber = (text: string): boolean => /^(?:NaN|-?Infinity|[-+]?[0-9.]+(?:e[-+]?\d+)?)$/.test(text);

/** The relation as it was before its newest columns were added. */
function* shorterVersions(relation: Relation): Generator<Relation> {
  const { id: _id, ...schema } = relation.schema;
  for (let count = schema.columns.length - 1; count > 0; count--) {
    if (schema.key.includes(schema.columns[count]?.name ?? "")) return;
    const columns = schema.columns.slice(0, count);
    const names = new Set(columns.map(({ name }) => name));
    const walColumns = relation.walColumns.filter(({ name }) => names.has(name));
    yield { ...relation, schema: identifySchema({ ...schema, columns }), walColumns };
  }
}
