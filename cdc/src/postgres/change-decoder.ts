import type { ChangeEvent, EventTransaction } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { JsonBytes } from "@cascade/shared/json-bytes";
import type { Lsn, Position } from "@cascade/shared/lsn";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { SourceMark, SourceMessage } from "../change-source.ts";
import { SchemaHistory } from "../schema-history.ts";
import { markedTable } from "../snapshot/mark.ts";
import type { Catalog } from "./catalog.ts";
import { readDdlMessage } from "./ddl-message.ts";
import { type Fit, Fitting } from "./fitting.ts";
import { missingIdentity } from "./identity.ts";
import { KnownTables } from "./known-tables.ts";
import type { Relation } from "./relation.ts";
import { Reader, type Unread } from "./relation-book.ts";
import { type DecodedRow, type LostNumbers, TableDecoder } from "./table-decoder.ts";
import { unknownMessage } from "./unknown-message.ts";
import { DDL_PREFIX, HEARTBEAT_PREFIX, SNAPSHOT_PREFIX, type WalMark, WalReader, type WalRow } from "./wal2json.ts";

/** What the decoder needs of the catalog. */
export type RelationSource = Pick<Catalog, "relation" | "fingerprint" | "capture">;

/** A change whose new row may have lost numbers. */
export interface LostRow {
  readonly event: ChangeEvent;
  readonly numbers: LostNumbers;
}

export interface DecoderOptions {
  readonly catalog: RelationSource;
  readonly warn: (message: string) => void;
  /** The plugin is older than 2.6, and `takeLost` is to be asked after each delivery. */
  readonly losesNumbers: boolean;
  /** What was announced in earlier lives. */
  readonly history?: SchemaHistory;
  /** OIDs of tables that were not captured any more when the last life ended. */
  readonly left?: readonly number[];
  /** Whose heartbeats are ours: others may share the database. */
  readonly slot?: string;
}

/**
 * wal2json's messages, in WAL order, to the port's. Holds the transaction it is in and a decoder per relation. What relations look like
 * it learns from the messages that schema changes leave in the WAL; from the catalog where it meets one first, or where there is no event
 * trigger to write such messages.
 */
export class ChangeDecoder {
  /** An event trigger writes every schema change into the WAL: the catalog, which is ahead of the stream, is not asked about them. */
  told = false;
  readonly tables: KnownTables;
  readonly #catalog: RelationSource;
  readonly #warn: (message: string) => void;
  readonly #fitting: Fitting;
  readonly #reader = new WalReader();
  #transaction: EventTransaction | null = null;
  #ordinal = 0;
  /** Of the catalog that the readers were made from; null before the first. */
  #fingerprint: string | null = null;
  #suspectsDdl = false;
  #refreshed = false;
  readonly #warned = new Set<string>();
  #rootTruncatedAt: Lsn | null = null;
  readonly losesNumbers: boolean;
  readonly #slot: string;
  #lost: LostRow[] = [];

  constructor({ catalog, warn, losesNumbers, history = new SchemaHistory([]), left = [], slot = "" }: DecoderOptions) {
    this.#slot = slot;
    this.#catalog = catalog;
    this.#warn = warn;
    this.losesNumbers = losesNumbers;
    this.tables = new KnownTables({ capture: catalog.capture, history, left, warn: (message) => this.#warnOnce(message) });
    this.#fitting = new Fitting(this.tables, losesNumbers);
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
   * Reads the relations anew, if any has changed, before their next rows: what is cached may still fit rows that were written under
   * another key, type modifier or partition tree, and nothing in a row would tell. Resolves to whether any has changed.
   */
  async refresh(): Promise<boolean> {
    const fingerprint = await this.#catalog.fingerprint();
    const changed = this.#fingerprint !== fingerprint;
    if (changed && this.#fingerprint !== null && !this.told) this.tables.forget();
    this.#fingerprint = fingerprint;
    return changed;
  }

  /** null when done; a promise where the catalog must be read first. */
  decodeOne(json: JsonBytes, into: SourceMessage[]): Promise<void> | null {
    const message = this.#reader.read(json);
    switch (message.action) {
      case "B":
        this.#transaction = { txId: message.txId, commitLsn: message.commitLsn, committedAtMs: message.committedAtMs };
        this.#ordinal = 0;
        this.tables.beginTransaction();
        return null;
      case "C":
        if (this.#transaction === null) throw unknownMessage("a commit without its begin");
        into.push({ kind: "commit", endLsn: message.endLsn, committedAtMs: this.#transaction.committedAtMs });
        this.#transaction = null;
        // A transaction without rows is what DDL looks like here, and it stands before every row that is written under it.
        if (this.#ordinal === 0 && !this.told) this.#suspectsDdl = true;
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
    const transaction = this.#transaction;
    const ordinal = this.#ordinal++;
    if (this.tables.hasUpcoming) this.tables.catchUp({ commitLsn: transaction.commitLsn, ordinal });
    if (prefix === DDL_PREFIX) return this.#decodeDdl(content, { commitLsn: transaction.commitLsn, ordinal }, into);
    if (prefix === HEARTBEAT_PREFIX && content === this.#slot) {
      const { commitLsn, committedAtMs } = transaction;
      into.push({ kind: "heartbeat", commitLsn, committedAtMs });
    }
    if (prefix !== SNAPSHOT_PREFIX) return null;
    return this.#decodeSnapshotMark({ kind: "mark", prefix, content, transaction, ordinal, lsn, table: null }, into);
  }

  #decodeDdl(content: string, at: Position, into: SourceMessage[]): null {
    const message = readDdlMessage(content);
    if (message.kind !== "look") this.tables.told(message, at, into);
    else {
      this.tables.forget();
      this.#suspectsDdl = true;
    }
    return null;
  }

  /** Rows that a snapshot puts there must be of the schema that the stream has there, announced before them. */
  async #decodeSnapshotMark(mark: SourceMark, into: SourceMessage[]): Promise<void> {
    await this.#look();
    const name = markedTable(mark.content);
    const reader = name === null ? null : await this.#readerOf(name);
    if (reader === null) return void into.push(mark);
    this.#announce(reader, mark.ordinal, into);
    into.push({ ...mark, table: this.#decoderOf(reader).eventTable });
  }

  async #readerOf(name: TableName): Promise<Reader | null> {
    const known = this.tables.find(name.schema, name.table);
    if (known !== undefined) return typeof known === "string" ? null : known;
    // The catalog may be ahead of the stream: whose name it was when the chunk was read has another one here, or is gone.
    if (this.told) return null;
    const relation = await this.#catalog.relation(name);
    if (typeof relation === "string") return null;
    const reader = new Reader(relation);
    this.tables.put(reader);
    return reader;
  }

  #decoderOf(reader: Reader): TableDecoder {
    reader.decoder ??= new TableDecoder(reader.relation, this.losesNumbers);
    return reader.decoder;
  }

  #announce(reader: Reader, ordinal: number, into: SourceMessage[]): void {
    if (reader.announced) return;
    reader.announced = true;
    const { relation, former } = reader;
    const { announcer } = this.tables;
    into.push({ kind: "table", table: this.#decoderOf(reader).eventTable, schema: relation.schema });
    const at = { commitLsn: (this.#transaction as EventTransaction).commitLsn, ordinal };
    if (former) announcer.former(relation, at, into);
    else announcer.current(relation, at, { told: false, rewritten: false }, into);
  }

  #decodeRow(row: WalRow, into: SourceMessage[]): Promise<void> | null {
    if (this.#transaction === null) throw unknownMessage("a row outside a transaction");
    const ordinal = this.#ordinal++;
    if (this.tables.hasUpcoming) this.tables.catchUp({ commitLsn: this.#transaction.commitLsn, ordinal });
    if (this.#mustLook) return this.#decodeRefreshed(row, ordinal, into);
    return this.#decodeWith(row, ordinal, into);
  }

  get #mustLook(): boolean {
    return this.#suspectsDdl || (this.#fingerprint === null && !this.told);
  }

  /** One look at the catalog serves all of a delivery. */
  async #look(): Promise<void> {
    if (!this.#mustLook) return;
    if (!this.#refreshed) await this.refresh();
    this.#refreshed = true;
    this.#suspectsDdl = false;
  }

  async #decodeRefreshed(row: WalRow, ordinal: number, into: SourceMessage[]): Promise<void> {
    await this.#look();
    const pending = this.#decodeWith(row, ordinal, into);
    if (pending !== null) await pending;
  }

  #decodeWith(row: WalRow, ordinal: number, into: SourceMessage[]): Promise<void> | null {
    const reader = this.tables.find(row.schema, row.table);
    if (typeof reader === "string") return null;
    const decoder = reader?.decoder ?? null;
    if (reader === undefined || decoder === null) return this.#meet(row, reader, ordinal, into);
    const decoded = decoder.decode(row);
    if (decoded === null) return this.#readAgain(row, reader, ordinal, into);
    this.#push(row, ordinal, reader, decoded, into);
    return null;
  }

  #push(row: WalRow, ordinal: number, reader: Reader, decoded: DecodedRow, into: SourceMessage[]): void {
    const { relation } = reader;
    if (row.action === "T" && this.#isPartOfTruncate(row, relation)) return;
    if (!reader.announced) this.#announce(reader, ordinal, into);
    const op = OPS[row.action];
    const table = this.#decoderOf(reader).eventTable;
    const transaction = this.#transaction as EventTransaction;
    const { key, before, after, lost } = decoded;
    const event: ChangeEvent = { op, table, transaction, ordinal, lsn: row.lsn, key, before, after };
    if (lost !== null) this.#lost.push({ event, numbers: lost });
    into.push({ kind: "change", event });
  }

  /** The first row of a relation, or of a name that nothing is known of. */
  async #meet(row: WalRow, reader: Reader | undefined, ordinal: number, into: SourceMessage[]): Promise<void> {
    if (reader === undefined) return this.#readAgain(row, reader, ordinal, into);
    if (missingIdentity(reader.relation) !== null) {
      // It may have been given one since, or be gone: then what it has lacked one for is lost already.
      const now = await this.#catalog.relation(reader.relation.name);
      const missing = typeof now === "string" ? null : missingIdentity(now, { changesMayBeLost: true });
      if (missing !== null) throw missing;
    }
    const decoded = this.#decoderOf(reader).decode(row);
    if (decoded === null) return this.#readAgain(row, reader, ordinal, into);
    this.#push(row, ordinal, reader, decoded, into);
  }

  async #readAgain(row: WalRow, known: Reader | undefined, ordinal: number, into: SourceMessage[]): Promise<void> {
    const adapted = known?.relation.guessed ? this.#fitting.adapted(row, known.relation) : null;
    const fit = adapted ?? (await this.#fromCatalog(row, known));
    if (typeof fit === "string") return this.#leaveOut({ schema: row.schema, table: row.table }, fit);
    this.tables.put(fit.reader);
    this.#push(row, ordinal, fit.reader, fit.decoded, into);
  }

  /** @param txId whose changes the catalog must show: the slot brings a row a moment before others see what its transaction did */
  async #fromCatalog(row: WalRow, known: Reader | undefined, txId: number | null = null): Promise<Fit | Unread> {
    const name: TableName = { schema: row.schema, table: row.table };
    const now = await this.#catalog.relation(name, txId);
    const again = txId === null ? (this.#transaction?.txId ?? null) : null;
    // The stream is where another table has that name.
    if (typeof now === "string" || (this.told && this.tables.hasOtherName(now))) {
      const fit = (known === undefined ? null : this.#fitting.formerOf(row, known.relation)) ?? this.#fitting.gone(row);
      if (fit === null && now === "absent" && again !== null) return this.#fromCatalog(row, known, again);
      return fit ?? (typeof now === "string" ? now : "absent");
    }
    const missing = missingIdentity(now, { changesMayBeLost: true });
    if (missing !== null) throw missing;
    const fit = this.#fitting.fit(row, now, false) ?? this.#fitting.formerOf(row, now);
    if (fit === null && again !== null) return this.#fromCatalog(row, known, again);
    if (fit === null) throw schemaDrift(name);
    return fit;
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
    this.tables.leaveOut(name, unread);
    if (unread === "absent") this.#warnOnce(`rows of ${formatTableName(name)} are left out: no table has that name any more`);
  }

  #warnOnce(message: string): void {
    if (this.#warned.has(message)) return;
    this.#warned.add(message);
    this.#warn(message);
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
