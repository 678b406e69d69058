import type { EventTable, RowJson } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { numberLost } from "./number-lost.ts";
import { endOfString, unknownMessage, type WalRow } from "./wal2json.ts";
import { losesSpecialNumbers, type WireKind, wireKindOf, wireValue } from "./wire-value.ts";

/** A row change in wire JSON, ready for the envelope. */
export interface DecodedRow {
  readonly key: RowJson | null;
  readonly before: RowJson | null;
  readonly after: RowJson | null;
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
  /** How the column's object begins in wal2json's text, up to its value. */
  readonly prefix: string;
  readonly wireName: string;
  readonly kind: WireKind;
  readonly schema: ColumnSchema;
  /** A `null` here may stand for NaN or an infinity. */
  readonly losesNumbers: boolean;
  readonly inKey: boolean;
}

const IDENTITY = '"identity":[';
const CLOSING_BRACKET = 93;
const COMMA = 44;
const CLOSING_BRACE = 125;

/**
 * Cuts the rows of one table, in one schema version, out of wal2json's text. Runs for every row: the text up to a value is the same in
 * every row of a table, so reading a column is one comparison and one cut.
 */
export class TableDecoder {
  readonly eventTable: EventTable;
  readonly #table: CapturedTable;
  readonly #columns: readonly DecodedColumn[];
  readonly #keyAt: readonly number[];
  readonly #values: (string | undefined)[];
  readonly #old: (string | undefined)[];
  /** Of the row in hand. */
  #lostAt: number[] = [];

  /** @param losesNumbers the plugin is older than 2.6 */
  constructor(table: CapturedTable, losesNumbers: boolean) {
    const { schema, topic, walColumns } = table;
    this.#table = table;
    const byName = new Map(schema.columns.map((column) => [column.name, column]));
    this.eventTable = { schema: schema.schema, table: schema.table, topic, schemaId: schema.id };
    this.#columns = walColumns.map(({ name, declaredTypeOid }) => {
      const column = byName.get(name);
      if (column === undefined) throw new TypeError(`column ${name} of a partition of ${this.#name()} is not in its root`);
      return {
        name,
        // The plugin prints the OID as a signed number.
        prefix: `{"name":${JSON.stringify(name)},"typeoid":${declaredTypeOid | 0},"value":`,
        wireName: `${JSON.stringify(name)}:`,
        kind: wireKindOf(column.typeOid),
        schema: column,
        losesNumbers: losesNumbers && losesSpecialNumbers(declaredTypeOid),
        inKey: schema.key.includes(name),
      };
    });
    this.#keyAt = schema.key.map((name) => walColumns.findIndex((column) => column.name === name));
    this.#values = new Array(this.#columns.length);
    this.#old = new Array(this.#columns.length);
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
    return this.#rowJson(whole);
  }

  /** null when the row does not fit this schema: the table has changed and the catalog must be read again. */
  decode(row: WalRow): DecodedRow | null {
    const { text, action } = row;
    if (action === "T") return { key: null, before: null, after: null, lost: null };
    if (this.#lostAt.length > 0) this.#lostAt = [];
    const values = this.#values.fill(undefined);
    const old = this.#old.fill(undefined);
    let at = row.columnsAt;
    if (action !== "D") {
      if (at === -1) throw unknownMessage(`action ${action} without columns`);
      at = this.#readColumns(text, at, values);
      if (at === -1) return null;
    }
    if (action !== "I") {
      const identityAt = text.indexOf(IDENTITY, at === -1 ? 0 : at);
      // Without an identity list nobody knows which row this is: that the key is the new row's is only guessed.
      if (identityAt === -1) throw this.#withoutIdentity(action);
      if (this.#readColumns(text, identityAt + IDENTITY.length, old) === -1) return null;
      // A key stored out of line that did not change is in the old row alone.
      if (action === "U") for (const i of this.#keyAt) values[i] ??= old[i];
    }
    // An insert has every column, and so has the old row of a table without key: one that lacks any is of another schema.
    if ((action === "I" || this.#keyAt.length === 0) && (action === "I" ? values : old).includes(undefined)) return null;
    // The key has changed since the catalog was read.
    if (!this.#hasKey(action === "I" ? values : old) || !this.#hasKey(action === "D" ? old : values)) return null;
    return this.#row(action, values, old);
  }

  #hasKey(values: readonly (string | undefined)[]): boolean {
    for (const i of this.#keyAt) if (values[i] === undefined) return false;
    return true;
  }

  #row(action: "I" | "U" | "D", values: (string | undefined)[], old: (string | undefined)[]): DecodedRow {
    if (action === "D") return { key: this.#keyJson(old), before: this.#rowJson(old), after: null, lost: null };
    if (action === "I")
      return { key: this.#keyJson(values), before: null, after: this.#rowJson(values), lost: this.#lost(values) };
    const before = this.#rowJson(old);
    // Under REPLICA IDENTITY FULL an unchanged TOAST value is in the old row.
    if (this.#table.schema.identity === "full") for (let i = 0; i < values.length; i++) values[i] ??= old[i];
    return { key: this.#keyJson(values), before, after: this.#rowJson(values), lost: this.#lost(values) };
  }

  #lost(values: readonly (string | undefined)[]): LostNumbers | null {
    return this.#lostAt.length === 0 ? null : { decoder: this, values: [...values], at: this.#lostAt };
  }

  /** Fills `into` by column; returns the position after the list, or -1 when a column is not of this schema. */
  #readColumns(text: string, start: number, into: (string | undefined)[]): number {
    const columns = this.#columns;
    let at = start;
    if (text.charCodeAt(at) === CLOSING_BRACKET) return at + 1;
    for (let next = 0; ; next++) {
      // Columns come in attnum order with the unsent ones left out.
      while (next < columns.length && !text.startsWith((columns[next] as DecodedColumn).prefix, at)) next++;
      const column = columns[next];
      if (column === undefined) return -1;
      at += column.prefix.length;
      const end = endOfValue(text, at);
      const raw = text.slice(at, end);
      if (column.losesNumbers && raw === "null") this.#noteLost(column, next, into);
      else into[next] = wireValue(column.kind, raw);
      if (text.charCodeAt(end) !== CLOSING_BRACE) throw unknownMessage("a column has more fields than name, typeoid and value");
      at = end + 1;
      const separator = text.charCodeAt(at++);
      if (separator === CLOSING_BRACKET) return at;
      if (separator !== COMMA) throw unknownMessage("a list of columns does not end");
    }
  }

  #noteLost({ name, inKey }: DecodedColumn, at: number, into: (string | undefined)[]): void {
    if (inKey) throw numberLost(this.#table.schema, `column ${name} of its key came as null`);
    if (into === this.#values) this.#lostAt.push(at);
    // What an old row had there is nowhere any more: left unsaid, which is not to say NULL. Only without a key must the row be whole.
    if (into === this.#values || this.#keyAt.length === 0) into[at] = "null";
  }

  #rowJson(values: readonly (string | undefined)[]): RowJson {
    let json = "";
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      if (value !== undefined) json += `${json === "" ? "{" : ","}${(this.#columns[i] as DecodedColumn).wireName}${value}`;
    }
    return json === "" ? "{}" : `${json}}`;
  }

  #keyJson(values: readonly (string | undefined)[]): RowJson | null {
    if (this.#keyAt.length === 0) return null;
    let json = "";
    for (const i of this.#keyAt) json += `${json === "" ? "{" : ","}${(this.#columns[i] as DecodedColumn).wireName}${values[i]}`;
    return `${json}}`;
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

/** Position after the value that begins at `start`: a JSON string, or a bare number, true, false or null. */
function endOfValue(text: string, start: number): number {
  if (text.charCodeAt(start) === 34) return endOfString(text, start);
  let end = start;
  for (let char = text.charCodeAt(end); char !== COMMA && char !== CLOSING_BRACE; char = text.charCodeAt(++end)) {
    if (Number.isNaN(char)) throw unknownMessage("a value does not end");
  }
  return end;
}
