import type { EventTable, RowJson } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { copyBytes, JsonBytes } from "@cascade/shared/json-bytes";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { BytePages } from "./byte-pages.ts";
import { endOfValue, hasAt } from "./json-cut.ts";
import { numberLost } from "./number-lost.ts";
import { RowValues } from "./row-values.ts";
import { unknownMessage } from "./unknown-message.ts";
import type { WalRow } from "./wal2json.ts";
import { losesSpecialNumbers, type WireKind, wireKindOf } from "./wire-value.ts";

/** A row change in wire JSON, ready for the envelope. */
export interface DecodedRow {
  readonly key: JsonBytes | null;
  readonly before: JsonBytes | null;
  readonly after: JsonBytes | null;
  /** What the plugin may have lost of the new row; null when nothing, as nearly always. */
  readonly lost: LostNumbers | null;
}

/** A new row with nulls that stand for NULL, NaN or an infinity: wal2json before 2.6 writes all of them so. */
export interface LostNumbers {
  readonly decoder: TableDecoder;
  readonly values: readonly (string | undefined)[];
  /** Where those nulls are. */
  readonly at: readonly number[];
}

/** A relation whose rows the WAL names, and the table they travel as: itself, or the root of its partition tree. */
export interface CapturedTable {
  readonly schema: TableSchema;
  readonly topic: string;
  /** The relation's own columns in its own order, which in a partition may differ from the root's. */
  readonly walColumns: readonly WalColumn[];
}

export interface WalColumn {
  readonly name: string;
  /** Its own type's OID: a domain's, where the schema has the domain's base type. */
  readonly declaredTypeOid: number;
}

interface DecodedColumn {
  readonly name: string;
  /** How the column's object begins in wal2json's message, up to its value. */
  readonly prefix: Buffer;
  /** `"id":` */
  readonly wireName: Buffer;
  readonly kind: WireKind;
  readonly schema: ColumnSchema;
  /** A `null` here may stand for NaN or an infinity. */
  readonly losesNumbers: boolean;
  readonly inKey: boolean;
}

const COLUMNS = Buffer.from(',"columns":[');
const IDENTITY = Buffer.from(',"identity":[');
const MAX_SIGNED = 2 ** 31 - 1;
const CLOSING_BRACKET = 93;
const COMMA = 44;
const OPENING_BRACE = 123;
const CLOSING_BRACE = 125;
/** Of null. */
const LETTER_N = 110;

/** Of the rows of all tables. */
const pages = new BytePages();

/**
 * Cuts the rows of one table, in one schema version, out of wal2json's messages. Runs for every row: the bytes up to a value are the same in
 * every row of a table, so reading a column is one comparison, and writing it one copy.
 */
export class TableDecoder {
  readonly eventTable: EventTable;
  readonly #table: CapturedTable;
  #columns: readonly DecodedColumn[];
  /** With the OIDs of types as another version of the plugin prints them; null where all do alike. */
  #otherwise: readonly DecodedColumn[] | null;
  readonly #keyAt: readonly number[];
  readonly #allAt: readonly number[];
  readonly #values: RowValues;
  readonly #old: RowValues;
  /** Of the row in hand. */
  #lostAt: number[] = [];

  /** @param losesNumbers the plugin is older than 2.6 */
  constructor(table: CapturedTable, losesNumbers: boolean) {
    const { schema, topic, walColumns } = table;
    this.#table = table;
    const byName = new Map(schema.columns.map((column) => [column.name, column]));
    this.eventTable = { schema: schema.schema, table: schema.table, topic, schemaId: schema.id };
    const columns = (printed: (oid: number) => number) =>
      walColumns.map(({ name, declaredTypeOid }) => {
        const column = byName.get(name);
        if (column === undefined) throw new TypeError(`column ${name} of a partition of ${this.#name()} is not in its root`);
        return {
          name,
          prefix: Buffer.from(`{"name":${JSON.stringify(name)},"typeoid":${printed(declaredTypeOid)},"value":`),
          wireName: Buffer.from(`${JSON.stringify(name)}:`),
          kind: wireKindOf(column.typeOid),
          schema: column,
          losesNumbers: losesNumbers && losesSpecialNumbers(declaredTypeOid),
          inKey: schema.key.includes(name),
        };
      });
    // Up to wal2json 2.6 the OID is printed as a signed number, from 2.7 on as it is.
    this.#columns = columns((oid) => oid | 0);
    this.#otherwise = walColumns.some(({ declaredTypeOid }) => declaredTypeOid > MAX_SIGNED) ? columns((oid) => oid) : null;
    this.#keyAt = schema.key.map((name) => walColumns.findIndex((column) => column.name === name));
    this.#allAt = walColumns.map((_, at) => at);
    this.#values = new RowValues(this.#columns.length);
    this.#old = new RowValues(this.#columns.length);
  }

  get schema(): TableSchema {
    return this.#table.schema;
  }

  /** The columns whose values may be lost. */
  lostColumns({ at }: LostNumbers): readonly ColumnSchema[] {
    return at.map((i) => (this.#columns[i] as DecodedColumn).schema);
  }

  /** Whether NULL can stand in all of them. */
  mayBeNull({ at }: LostNumbers): boolean {
    for (const i of at) if (!(this.#columns[i] as DecodedColumn).schema.nullable) return false;
    return true;
  }

  /** The new row with these wire values in place of the nulls, in the order of `lostColumns`. */
  restored({ values, at }: LostNumbers, found: readonly string[]): RowJson {
    const whole = [...values];
    for (const [n, i] of at.entries()) whole[i] = found[n];
    const members = whole.flatMap((value, i) =>
      value === undefined ? [] : [`${(this.#columns[i] as DecodedColumn).wireName}${value}`],
    );
    return `{${members.join(",")}}`;
  }

  /** null when the row does not fit this schema: the table has changed and the catalog must be read again. */
  decode(row: WalRow): DecodedRow | null {
    const decoded = this.#decode(row);
    if (decoded !== null || this.#otherwise === null) return decoded;
    [this.#columns, this.#otherwise] = [this.#otherwise, this.#columns];
    return this.#decode(row);
  }

  #decode(row: WalRow): DecodedRow | null {
    const { message, action } = row;
    if (action === "T") return { key: null, before: null, after: null, lost: null };
    if (this.#lostAt.length > 0) this.#lostAt = [];
    const { bytes, end } = message;
    const values = this.#values;
    const old = this.#old;
    values.clear();
    old.clear();
    let at = row.listsAt;
    if (action !== "D") {
      if (!hasAt(bytes, at, end, COLUMNS)) throw unknownMessage(`action ${action} without columns`);
      at = this.#readColumns(message, at + COLUMNS.length, values);
      if (at === -1) return null;
    }
    if (action !== "I") {
      // Without an identity list nobody knows which row this is: that the key is the new row's is only guessed.
      if (!hasAt(bytes, at, end, IDENTITY)) throw this.#withoutIdentity(action);
      if (this.#readColumns(message, at + IDENTITY.length, old) === -1) return null;
      // A key stored out of line that did not change is in the old row alone.
      if (action === "U") for (const i of this.#keyAt) if (!values.has(i) && old.has(i)) values.take(i, old);
    }
    // An insert has every column, and so has the old row of a table without key: one that lacks any is of another schema.
    if ((action === "I" || this.#keyAt.length === 0) && !(action === "I" ? values : old).hasAll()) return null;
    // The key has changed since the catalog was read.
    if (!this.#hasKey(action === "I" ? values : old) || !this.#hasKey(action === "D" ? old : values)) return null;
    return this.#row(action, bytes);
  }

  #hasKey(values: RowValues): boolean {
    for (const i of this.#keyAt) if (!values.has(i)) return false;
    return true;
  }

  #row(action: "I" | "U" | "D", message: Buffer): DecodedRow {
    const [values, old] = [this.#values, this.#old];
    if (action === "D") return { key: this.#keyJson(old, message), before: this.#rowJson(old, message), after: null, lost: null };
    if (action === "I")
      return {
        key: this.#keyJson(values, message),
        before: null,
        after: this.#rowJson(values, message),
        lost: this.#lost(values, message),
      };
    const before = this.#rowJson(old, message);
    // Under REPLICA IDENTITY FULL an unchanged TOAST value is in the old row.
    if (this.#table.schema.identity === "full")
      for (let i = 0; i < this.#columns.length; i++) if (!values.has(i) && old.has(i)) values.take(i, old);
    return {
      key: this.#keyJson(values, message),
      before,
      after: this.#rowJson(values, message),
      lost: this.#lost(values, message),
    };
  }

  #lost(values: RowValues, message: Buffer): LostNumbers | null {
    return this.#lostAt.length === 0 ? null : { decoder: this, values: values.texts(message), at: this.#lostAt };
  }

  /** Fills `into` by column; returns the position after the list, or -1 when a column is not of this schema. */
  #readColumns({ bytes, end }: JsonBytes, start: number, into: RowValues): number {
    const columns = this.#columns;
    let at = start;
    if (at < end && bytes[at] === CLOSING_BRACKET) return at + 1;
    for (let next = 0; ; next++) {
      // Columns come in attnum order with the unsent ones left out.
      while (next < columns.length && !hasAt(bytes, at, end, (columns[next] as DecodedColumn).prefix)) next++;
      const column = columns[next];
      if (column === undefined) return -1;
      at += column.prefix.length;
      const valueEnd = endOfValue(bytes, at, end);
      if (column.losesNumbers && bytes[at] === LETTER_N) this.#noteLost(column, next, into);
      else into.set(next, column.kind, bytes, at, valueEnd);
      if (bytes[valueEnd] !== CLOSING_BRACE) throw unknownMessage("a column has more fields than name, typeoid and value");
      at = valueEnd + 1;
      const separator = at < end ? bytes[at++] : undefined;
      if (separator === CLOSING_BRACKET) return at;
      if (separator !== COMMA) throw unknownMessage("a list of columns does not end");
    }
  }

  #noteLost({ name, inKey }: DecodedColumn, at: number, into: RowValues): void {
    if (inKey) throw numberLost(this.#table.schema, `column ${name} of its key came as null`);
    if (into === this.#values) this.#lostAt.push(at);
    // What an old row had there is nowhere any more: left unsaid, which is not to say NULL. Only without a key must the row be whole.
    if (into === this.#values || this.#keyAt.length === 0) into.setNull(at);
  }

  #rowJson(values: RowValues, message: Buffer): JsonBytes {
    return this.#json(this.#allAt, values, message);
  }

  #keyJson(values: RowValues, message: Buffer): JsonBytes | null {
    return this.#keyAt.length === 0 ? null : this.#json(this.#keyAt, values, message);
  }

  /** Those of the columns that were sent, in this order. */
  #json(columnsAt: readonly number[], values: RowValues, message: Buffer): JsonBytes {
    let size = 2;
    for (const i of columnsAt)
      if (values.has(i)) size += (this.#columns[i] as DecodedColumn).wireName.length + values.sizeOf(i) + 1;
    const page = pages.reserve(size);
    const start = pages.at;
    let at = start;
    for (const i of columnsAt) {
      if (!values.has(i)) continue;
      const { wireName } = this.#columns[i] as DecodedColumn;
      page[at] = at === start ? OPENING_BRACE : COMMA;
      at = copyBytes(wireName, 0, wireName.length, page, at + 1);
      at = values.write(i, message, page, at);
    }
    if (at === start) page[at++] = OPENING_BRACE;
    page[at++] = CLOSING_BRACE;
    pages.wrote(at);
    return new JsonBytes(page, start, at);
  }

  #name(): string {
    return formatTableName(this.#table.schema);
  }

  /**
   * wal2json leaves rows of tables without an identity out (facts.md §1.5). It writes one without its list when main-db's catalog changes
   * in that moment (https://github.com/eulerto/wal2json/issues/283): the cache in which it looks the key up is emptied between two looks.
   */
  #withoutIdentity(action: string): CascadeError {
    return new CascadeError({
      code: "KEY_UNREAD",
      verdict: "retry",
      message: `${action === "U" ? "an update" : "a delete"} of ${this.#name()} came without its key: wal2json has lost sight of it while a table was altered`,
      advice: "nothing to do: cdc reads the row from the slot again, with its key",
    });
  }
}
