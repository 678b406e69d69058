import type { ChangeEvent, EventTransaction } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { Lsn } from "@cascade/shared/lsn";
import { identifySchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { SourceMark, SourceMessage } from "../change-source.ts";
import { markedTable } from "../snapshot/mark.ts";
import type { Catalog, Relation } from "./catalog.ts";
import { missingIdentity } from "./identity.ts";
import { type DecodedRow, type LostNumbers, TableDecoder } from "./table-decoder.ts";
import { DDL_PREFIX, readWalMessage, SNAPSHOT_PREFIX, unknownMessage, type WalMark, type WalRow } from "./wal2json.ts";

/** What the decoder needs of the catalog. */
export type RelationSource = Pick<Catalog, "relation" | "fingerprint">;

/** Why rows of a name are left out. */
type Unread = "excluded" | "absent";

/** How long a name counts as excluded: it could become a partition of a captured table. */
const EXCLUDED_FOR_MS = 1000;

/** A change whose new row may have lost numbers. */
export interface LostRow {
  readonly event: ChangeEvent;
  readonly numbers: LostNumbers;
}

interface Reader {
  readonly relation: Relation;
  readonly decoder: TableDecoder;
}

/**
 * wal2json's messages, in WAL order, to the port's. Holds the transaction it is in and a decoder per relation; asks the catalog only
 * for a relation it has not met or whose rows no longer fit.
 */
export class ChangeDecoder {
  readonly #catalog: RelationSource;
  readonly #warn: (message: string) => void;
  /** By schema, then table: no key is built per row. */
  readonly #readers = new Map<string, Map<string, Reader | Unread>>();
  readonly #announced = new Set<string>();
  #transaction: EventTransaction | null = null;
  #ordinal = 0;
  /** Of the catalog that the readers were made from; null before the first. */
  #fingerprint: string | null = null;
  #suspectsDdl = false;
  #refreshed = false;
  /** Readers from before the catalog changed, by their relations' names: rows from before may still be on their way. */
  #former = new Map<string, Reader>();
  #hasAbsent = false;
  #forgottenAtMs = 0;
  readonly #warned = new Set<string>();
  #rootTruncatedAt: Lsn | null = null;
  readonly #losesNumbers: boolean;
  #lost: LostRow[] = [];

  /** @param losesNumbers the plugin is older than 2.6, and `takeLost` is to be asked after each delivery */
  constructor(catalog: RelationSource, warn: (message: string) => void, losesNumbers: boolean) {
    this.#catalog = catalog;
    this.#warn = warn;
    this.#losesNumbers = losesNumbers;
  }

  /** The changes decoded since the last call whose numbers must be looked up. */
  takeLost(): readonly LostRow[] {
    const lost = this.#lost;
    if (lost.length > 0) this.#lost = [];
    return lost;
  }

  /** A keepalive that comes in the middle of a transaction says nothing about it. */
  get inTransaction(): boolean {
    return this.#transaction !== null;
  }

  /** What is decoded from here on was received before now: one look at the catalog serves all of it. */
  delivered(): void {
    this.#refreshed = false;
  }

  /**
   * Reads the relations anew, if any has changed, before their next rows. What is cached may still fit rows that were written under
   * another key, type modifier or partition tree: nothing in a row would tell.
   */
  async refresh(): Promise<void> {
    const fingerprint = await this.#catalog.fingerprint();
    if (this.#fingerprint !== null && this.#fingerprint !== fingerprint) this.#forgetReaders();
    this.#fingerprint = fingerprint;
  }

  /** null when done; a promise where the catalog must be read first. */
  decodeOne(text: string, into: SourceMessage[]): Promise<void> | null {
    const message = readWalMessage(text);
    switch (message.action) {
      case "B":
        this.#transaction = { txId: message.txId, commitLsn: message.commitLsn, committedAtMs: message.committedAtMs };
        this.#ordinal = 0;
        if (this.#hasAbsent) this.#forgetUnread();
        return null;
      case "C":
        if (this.#transaction === null) throw unknownMessage("a commit without its begin");
        into.push({ kind: "commit", endLsn: message.endLsn, committedAtMs: this.#transaction.committedAtMs });
        this.#transaction = null;
        // A transaction without rows is what DDL looks like here, and it stands before every row that is written under it.
        if (this.#ordinal === 0) this.#suspectsDdl = true;
        return null;
      case "M":
        return this.#decodeMark(message, into);
      default:
        return this.#decodeRow(message, into);
    }
  }

  /** One that is not of a transaction was not written by us. */
  #decodeMark({ prefix, content, transactional, lsn }: WalMark, into: SourceMessage[]): Promise<void> | null {
    if (!transactional || this.#transaction === null) return null;
    const mark: SourceMark = {
      kind: "mark",
      prefix,
      content,
      transaction: this.#transaction,
      ordinal: this.#ordinal++,
      lsn,
      table: null,
    };
    if (prefix === SNAPSHOT_PREFIX) return this.#decodeSnapshotMark(mark, into);
    if (prefix === DDL_PREFIX) this.#suspectsDdl = true;
    into.push(mark);
    return null;
  }

  /** Rows that a snapshot puts there must be of the schema that the stream has there, announced before them. */
  async #decodeSnapshotMark(mark: SourceMark, into: SourceMessage[]): Promise<void> {
    if (this.#suspectsDdl || this.#fingerprint === null) {
      if (!this.#refreshed) await this.refresh();
      this.#refreshed = true;
      this.#suspectsDdl = false;
    }
    const name = markedTable(mark.content);
    const reader = name === null ? null : await this.#readerOf(name);
    if (reader !== null) this.#announce(reader.relation, into);
    into.push(reader === null ? mark : { ...mark, table: reader.decoder.eventTable });
  }

  async #readerOf(name: TableName): Promise<Reader | null> {
    const known = this.#readers.get(name.schema)?.get(name.table);
    if (known !== undefined) return typeof known === "string" ? null : known;
    const relation = await this.#catalog.relation(name);
    if (typeof relation === "string") return null;
    const reader = { relation, decoder: new TableDecoder(relation, this.#losesNumbers) };
    this.#remember(name, reader);
    return reader;
  }

  #announce({ topic, schema }: Relation, into: SourceMessage[]): void {
    if (this.#announced.has(schema.id)) return;
    this.#announced.add(schema.id);
    into.push({ kind: "schema", topic, schema });
  }

  #decodeRow(row: WalRow, into: SourceMessage[]): Promise<void> | null {
    if (this.#transaction === null) throw unknownMessage("a row outside a transaction");
    const ordinal = this.#ordinal++;
    if (this.#suspectsDdl || this.#fingerprint === null) return this.#decodeRefreshed(row, ordinal, into);
    return this.#decodeWith(row, ordinal, into);
  }

  async #decodeRefreshed(row: WalRow, ordinal: number, into: SourceMessage[]): Promise<void> {
    if (!this.#refreshed) await this.refresh();
    this.#refreshed = true;
    this.#suspectsDdl = false;
    const pending = this.#decodeWith(row, ordinal, into);
    if (pending !== null) await pending;
  }

  #decodeWith(row: WalRow, ordinal: number, into: SourceMessage[]): Promise<void> | null {
    const reader = this.#readers.get(row.schema)?.get(row.table);
    if (reader === "excluded" || reader === "absent") return null;
    if (reader === undefined) return this.#readAgain(row, ordinal, into);
    const decoded = reader.decoder.decode(row);
    if (decoded === null) return this.#readAgain(row, ordinal, into);
    this.#push(row, ordinal, reader, decoded, into);
    return null;
  }

  #push(row: WalRow, ordinal: number, reader: Reader, decoded: DecodedRow, into: SourceMessage[]): void {
    const { relation, decoder } = reader;
    if (row.action === "T" && this.#isPartOfTruncate(row, relation)) return;
    this.#announce(relation, into);
    const op = OPS[row.action];
    const table = decoder.eventTable;
    const transaction = this.#transaction as EventTransaction;
    const { key, before, after, lost } = decoded;
    const event: ChangeEvent = { op, table, transaction, ordinal, lsn: row.lsn, key, before, after };
    if (lost !== null) this.#lost.push({ event, numbers: lost });
    into.push({ kind: "change", event });
  }

  async #readAgain(row: WalRow, ordinal: number, into: SourceMessage[]): Promise<void> {
    const name: TableName = { schema: row.schema, table: row.table };
    const relation = await this.#catalog.relation(name);
    if (relation === "excluded" || relation === "absent") return this.#leaveOut(name, relation);
    const missing = missingIdentity(relation, { changesMayBeLost: true });
    if (missing !== null) throw missing;
    for (const version of versionsOf(relation)) {
      const reader = { relation: version, decoder: new TableDecoder(version, this.#losesNumbers) };
      const decoded = reader.decoder.decode(row);
      if (decoded === null) continue;
      this.#remember(name, reader);
      return this.#push(row, ordinal, reader, decoded, into);
    }
    const former = this.#former.get(formatTableName(name));
    const decoded = former?.decoder.decode(row) ?? null;
    if (former === undefined || decoded === null) throw schemaDrift(name);
    this.#push(row, ordinal, former, decoded, into);
  }

  /** A truncated partition tree is told of at one LSN: first its root, then every leaf. */
  #isPartOfTruncate(row: WalRow, relation: Relation): boolean {
    if (relation.kind === "partitioned") this.#rootTruncatedAt = row.lsn;
    if (relation.kind !== "partition" && relation.kind !== "branch") return false;
    if (this.#rootTruncatedAt !== row.lsn) {
      this.#warnOnce(
        `partition ${formatTableName(relation.name)} was truncated by itself: its rows stay in ${formatTableName(relation.schema)} on the replicas; delete them there, or use DELETE on main-db`,
      );
    }
    return true;
  }

  #leaveOut(name: TableName, unread: Unread): void {
    this.#remember(name, unread);
    this.#hasAbsent = true;
    if (unread === "absent") this.#warnOnce(`rows of ${formatTableName(name)} are left out: no table has that name any more`);
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#warn(message);
  }

  #remember(name: TableName, reader: Reader | Unread): void {
    let tables = this.#readers.get(name.schema);
    if (tables === undefined) {
      tables = new Map();
      this.#readers.set(name.schema, tables);
    }
    tables.set(name.table, reader);
  }

  #forgetReaders(): void {
    for (const [schema, tables] of this.#readers) {
      for (const [table, reader] of tables) {
        if (typeof reader !== "string") this.#former.set(formatTableName({ schema, table }), reader);
      }
    }
    this.#readers.clear();
  }

  /** A name that stood for nothing may be a table by the next transaction. */
  #forgetUnread(): void {
    const now = Date.now();
    const excludedToo = now - this.#forgottenAtMs >= EXCLUDED_FOR_MS;
    if (excludedToo) this.#forgottenAtMs = now;
    this.#hasAbsent = !excludedToo;
    for (const tables of this.#readers.values()) {
      for (const [table, reader] of tables) {
        if (reader === "absent" || (reader === "excluded" && excludedToo)) tables.delete(table);
      }
    }
  }
}

/** The relation as it is, then as it was before its newest columns were added: rows from before that may still be on their way. */
function* versionsOf(relation: Relation): Generator<Relation> {
  const { id: _id, ...schema } = relation.schema;
  yield relation;
  for (let count = schema.columns.length - 1; count > 0; count--) {
    if (schema.key.includes(schema.columns[count]?.name ?? "")) return;
    const columns = schema.columns.slice(0, count);
    const names = new Set(columns.map(({ name }) => name));
    const walColumns = relation.walColumns.filter(({ name }) => names.has(name));
    yield { ...relation, schema: identifySchema({ ...schema, columns }), walColumns };
  }
}

const OPS = { I: "c", U: "u", D: "d", T: "t" } as const;

function schemaDrift(name: TableName): CascadeError {
  return new CascadeError({
    code: "SCHEMA_DRIFT",
    verdict: "fatal",
    message: `a row of ${formatTableName(name)} was written under an older schema than main-db's catalog has now: a column was dropped, renamed or retyped, or the key changed, before cdc had read the rows`,
    advice: `exclude the table (CDC_TABLES=...,!${formatTableName(name)}) and copy it anew; alter columns of captured tables while cdc is caught up`,
  });
}
