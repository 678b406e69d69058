import type { ChangeSource, SourceMessage } from "@cascade/cdc/src/change-source.ts";
import { readDdlMessage } from "@cascade/cdc/src/postgres/ddl-message.ts";
import type { KnownTables } from "@cascade/cdc/src/postgres/known-tables.ts";
import type { Reader } from "@cascade/cdc/src/postgres/relation-book.ts";
import { slotActive, slotReadError } from "@cascade/cdc/src/postgres/slot.ts";
import { DDL_PREFIX, HEARTBEAT_PREFIX, SNAPSHOT_PREFIX } from "@cascade/cdc/src/postgres/wal2json.ts";
import { markedTable } from "@cascade/cdc/src/snapshot/mark.ts";
import type { EventTable, EventTransaction } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { Lsn, Position } from "@cascade/shared/lsn";
import { catalogRows } from "./catalog-rows.ts";
import type { MainDb, Mark, SlotHolder, Transaction, WalItem } from "./main-db.ts";
import { sqlError } from "./main-db-client.ts";
import type { Session, SimulatedSession } from "./main-db-session.ts";
import type { Network } from "./network.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { eventRows, isHidden } from "./tables.ts";

export const PREFIX = "cascade";

/** A walsender whose client says nothing for this long is ended. */
const SENDER_TIMEOUT_MS = [3_000, 60_000] as const;

interface SlotSourceOptions {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly mainDb: MainDb;
  readonly session: SimulatedSession;
  readonly tables: KnownTables;
  readonly maxMessages: number;
}

/** The slot as cdc's own sources tell it: whole transactions from the confirmed LSN on, in deliveries of any size. */
export class SlotSource implements ChangeSource, SlotHolder {
  readonly host: Host;
  readonly session: Session;
  readonly #options: SlotSourceOptions;
  readonly #met = new Map<Reader, EventTable>();
  #pending: SourceMessage[] = [];
  #at: number;
  #isBroken = false;
  #wake: (() => void) | null = null;
  #told: Lsn = 0n;

  private constructor(options: SlotSourceOptions, host: Host) {
    this.#options = options;
    this.host = host;
    this.session = options.session.session;
    const { slot, wal } = options.mainDb;
    const from = slot?.confirmed ?? 0n;
    const first = wal.findIndex(({ endLsn }) => endLsn > from);
    this.#at = first === -1 ? wal.length : first;
  }

  static async open(options: SlotSourceOptions): Promise<SlotSource> {
    const { mainDb, session, scheduler } = options;
    const host = scheduler.current as Host;
    let source: SlotSource | null = null;
    let isGivenUp = false;
    try {
      return await session.call(() => {
        const { slot } = mainDb;
        if (slot === null) throw sqlError("42704", "there is no such slot");
        if (slot.isLost) throw sqlError("55000", "the slot is invalid");
        if (slot.holder !== null) throw slotActive(PREFIX);
        source = new SlotSource(options, host);
        source.#isBroken = isGivenUp;
        slot.holder = source;
        source.#watch();
        return source;
      });
    } catch (error) {
      // The connection is closed: the server will notice.
      isGivenUp = true;
      (source as SlotSource | null)?.broken();
      throw slotReadError(error, PREFIX, "cannot stream from main-db");
    }
  }

  /** The server's side: lets go of who is dead, or has not been heard of for long. */
  #watch(): void {
    const { scheduler, mainDb } = this.#options;
    const [shortest, longest] = SENDER_TIMEOUT_MS;
    const timeoutMs = scheduler.random.between(shortest, longest);
    const look = () => {
      if (mainDb.slot?.holder !== this) return;
      const silent = this.host.frozenUntilMs > scheduler.nowMs + timeoutMs;
      if (!this.host.alive || silent || this.#isBroken) {
        mainDb.slot.holder = null;
        this.broken();
        return;
      }
      scheduler.after(scheduler.random.between(50, 500), null, look);
    };
    look();
  }

  broken(): void {
    this.#isBroken = true;
    this.wake();
  }

  wake(): void {
    const wake = this.#wake;
    this.#wake = null;
    if (wake !== null) this.#options.scheduler.after(this.#options.network.latencyMs(), this.host, wake);
  }

  async *messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    const onAbort = () => this.wake();
    signal.addEventListener("abort", onAbort);
    while (!signal.aborted) {
      if (this.#isBroken) throw streamEnded();
      const delivery = this.#take();
      if (delivery.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      yield delivery;
    }
    signal.removeEventListener("abort", onAbort);
  }

  #take(): readonly SourceMessage[] {
    const { mainDb, scheduler, network, maxMessages } = this.#options;
    const { random } = scheduler;
    if (network.strikes("stream-ends", 0.03)) this.broken();
    if (!network.reaches(this.host, "main-db")) this.broken();
    if (this.#isBroken) throw streamEnded();
    const size = random.between(1, maxMessages);
    while (this.#pending.length < size && this.#at < mainDb.wal.length && (this.#pending.length === 0 || !random.chance(0.1)))
      this.#decode(mainDb.wal[this.#at++] as Transaction);
    const delivery = this.#pending.splice(0, size);
    const isIdle = this.#pending.length === 0 && this.#at === mainDb.wal.length;
    if (isIdle && random.chance(0.3)) delivery.push({ kind: "keepalive", walEnd: mainDb.endLsn });
    return delivery;
  }

  #decode({ txId, commitLsn, endLsn, committedAtMs, items }: Transaction): void {
    const transaction = { txId, commitLsn, committedAtMs };
    this.#options.tables.beginTransaction();
    items.forEach((item, ordinal) => void this.#decodeItem(item, { transaction, ordinal }));
    this.#pending.push({ kind: "commit", endLsn, committedAtMs });
  }

  /** As ChangeDecoder does where an event trigger tells of every schema change. */
  #decodeItem(item: WalItem, place: Place): void {
    const { tables } = this.#options;
    const { transaction, ordinal } = place;
    const at = { commitLsn: transaction.commitLsn, ordinal };
    if (tables.hasUpcoming) tables.catchUp(at);
    switch (item.kind) {
      case "schema": {
        const { schema, rewritten } = item;
        if (rewritten !== null) tables.told({ kind: "rewritten", oid: schema.oid }, at, this.#pending);
        tables.told({ kind: "relations", late: false, rows: catalogRows([schema]) }, at, this.#pending);
        return;
      }
      case "gone":
        tables.told({ kind: "gone", oids: [{ oid: item.oid, dropped: true }] }, at, this.#pending);
        return;
      case "mark":
        this.#decodeMark(item, place);
        return;
      case "row": {
        const reader = tables.find(item.schema.schema, item.schema.table);
        if (typeof reader === "string" || (reader === undefined && isHidden(item.schema))) return;
        if (reader?.relation.schema.id !== item.schema.id)
          throw new Error(`a row of ${item.schema.table} (${item.schema.oid}) is read under another schema`);
        const table = this.#tableOf(reader, at);
        const event = { op: item.op, table, transaction, ordinal, lsn: at.commitLsn, ...eventRows(item) };
        this.#pending.push({ kind: "change", event });
      }
    }
  }

  #decodeMark({ prefix, content }: Mark, { transaction, ordinal }: Place): void {
    const { tables } = this.#options;
    const { commitLsn, committedAtMs } = transaction;
    const at = { commitLsn, ordinal };
    if (prefix === DDL_PREFIX) {
      const message = readDdlMessage(content);
      if (message.kind !== "look") tables.told(message, at, this.#pending);
    }
    if (prefix === HEARTBEAT_PREFIX && content === PREFIX) this.#pending.push({ kind: "heartbeat", commitLsn, committedAtMs });
    if (prefix !== SNAPSHOT_PREFIX) return;
    const name = markedTable(content);
    const reader = name === null ? undefined : tables.find(name.schema, name.table);
    const table = reader === undefined || typeof reader === "string" ? null : this.#tableOf(reader, at);
    this.#pending.push({ kind: "mark", prefix, content, transaction, ordinal, lsn: commitLsn, table });
  }

  #tableOf(reader: Reader, at: Position): EventTable {
    const met = this.#met.get(reader);
    if (met !== undefined) return met;
    const { schema, topic } = reader.relation;
    const table = { schema: schema.schema, table: schema.table, topic, schemaId: schema.id };
    this.#met.set(reader, table);
    this.#pending.push({ kind: "table", table, schema });
    const { announcer } = this.#options.tables;
    if (reader.former) announcer.former(reader.relation, at, this.#pending);
    else announcer.current(reader.relation, at, { told: false, rewritten: false }, this.#pending);
    return table;
  }

  confirm(through: Lsn): void {
    if (through <= this.#told) return;
    this.#told = through;
    const { scheduler, mainDb, network } = this.#options;
    scheduler.after(network.latencyMs(), scheduler.random.chance(0.5) ? null : this.host, () => {
      const { slot } = mainDb;
      if (slot?.holder === this && network.reaches(this.host, "main-db") && through > slot.confirmed) slot.confirmed = through;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { slot } = this.#options.mainDb;
    if (slot?.holder === this) slot.holder = null;
    this.#isBroken = true;
  }
}

interface Place {
  readonly transaction: EventTransaction;
  readonly ordinal: number;
}

const streamEnded = (): CascadeError =>
  new CascadeError({
    code: "MAIN_DB_AWAY",
    verdict: "retry",
    message: "the stream from main-db broke",
    advice: "nothing to do: it is simulated",
  });
