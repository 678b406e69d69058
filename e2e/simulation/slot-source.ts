import type { ChangeSource, SourceMessage } from "@cascade/cdc/src/change-source.ts";
import type { Announcer } from "@cascade/cdc/src/postgres/announcer.ts";
import { slotActive } from "@cascade/cdc/src/postgres/slot.ts";
import { SNAPSHOT_PREFIX } from "@cascade/cdc/src/postgres/wal2json.ts";
import { markedTable } from "@cascade/cdc/src/snapshot/mark.ts";
import type { EventTable } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { Lsn, Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";
import type { MainDb, SlotHolder, Transaction, WalItem } from "./main-db.ts";
import type { Network } from "./network.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { eventRows } from "./tables.ts";

export const PREFIX = "cascade";

/** A walsender whose client says nothing for this long is ended. */
const SENDER_TIMEOUT_MS = [3_000, 60_000] as const;

interface SlotSourceOptions {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly mainDb: MainDb;
  readonly announcer: Announcer;
  /** What tables are like where the slot begins. */
  readonly schemas: ReadonlyMap<number, TableSchema>;
  readonly maxMessages: number;
}

/** The slot as cdc's own sources tell it: whole transactions from the confirmed LSN on, in deliveries of any size. */
export class SlotSource implements ChangeSource, SlotHolder {
  readonly host: Host;
  readonly #options: SlotSourceOptions;
  /** Schema by OID, where the stream is. */
  readonly #schemas: Map<number, TableSchema>;
  readonly #met = new Map<string, EventTable>();
  #pending: SourceMessage[] = [];
  #at: number;
  #isBroken = false;
  #wake: (() => void) | null = null;
  #told: Lsn = 0n;

  private constructor(options: SlotSourceOptions, host: Host) {
    this.#options = options;
    this.host = host;
    this.#schemas = new Map(options.schemas);
    const { slot, wal } = options.mainDb;
    const from = slot?.confirmed ?? 0n;
    const first = wal.findIndex(({ endLsn }) => endLsn > from);
    this.#at = first === -1 ? wal.length : first;
  }

  static async open(options: SlotSourceOptions): Promise<SlotSource> {
    const { mainDb, network, scheduler } = options;
    const host = scheduler.current as Host;
    let source: SlotSource | null = null;
    let isGivenUp = false;
    try {
      return await network.call("main-db", () => {
        const { slot } = mainDb;
        if (slot === null) throw new Error("no slot");
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
      throw error;
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
    items.forEach((item, ordinal) => void this.#decodeItem(item, { transaction, ordinal }));
    this.#pending.push({ kind: "commit", endLsn, committedAtMs });
  }

  #decodeItem(item: WalItem, { transaction, ordinal }: { readonly transaction: EventPlace; readonly ordinal: number }): void {
    const { announcer } = this.#options;
    const { commitLsn } = transaction;
    switch (item.kind) {
      case "schema": {
        const { schema, rewritten } = item;
        this.#schemas.set(schema.oid, schema);
        const relation = { schema, topic: topicOf(PREFIX, schema) };
        announcer.current(relation, { commitLsn, ordinal }, { told: true, rewritten: rewritten !== null }, this.#pending);
        return;
      }
      case "mark": {
        const { prefix, content } = item;
        const name = prefix === SNAPSHOT_PREFIX ? markedTable(content) : null;
        const schema = name === null ? undefined : [...this.#schemas.values()].find(({ table }) => table === name.table);
        const table = schema === undefined ? null : this.#tableOf(schema, { commitLsn, ordinal });
        this.#pending.push({ kind: "mark", prefix, content, transaction, ordinal, lsn: commitLsn, table });
        return;
      }
      case "row": {
        const table = this.#tableOf(item.schema, { commitLsn, ordinal });
        const event = { op: item.op, table, transaction, ordinal, lsn: commitLsn, ...eventRows(item) };
        this.#pending.push({ kind: "change", event });
      }
    }
  }

  #tableOf(schema: TableSchema, at: Position): EventTable {
    let table = this.#met.get(schema.id);
    if (table === undefined) {
      const { announcer } = this.#options;
      const relation = { schema, topic: topicOf(PREFIX, schema) };
      if (!announcer.isKnown(schema.id)) announcer.current(relation, at, { told: false, rewritten: false }, this.#pending);
      table = { schema: schema.schema, table: schema.table, topic: topicOf(PREFIX, schema), schemaId: schema.id };
      this.#met.set(schema.id, table);
      this.#pending.push({ kind: "table", table, schema });
    }
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

type EventPlace = { readonly txId: number; readonly commitLsn: Lsn; readonly committedAtMs: number };

const streamEnded = (): CascadeError =>
  new CascadeError({
    code: "MAIN_DB_AWAY",
    verdict: "retry",
    message: "the stream from main-db broke",
    advice: "nothing to do: it is simulated",
  });
