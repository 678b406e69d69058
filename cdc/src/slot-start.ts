import { CascadeError } from "@cascade/shared/errors";
import { formatLsn, type Lsn, laterLsn } from "@cascade/shared/lsn";
import type pg from "pg";
import type { CdcConfig } from "./config.ts";
import type { Announcement } from "./event-publisher.ts";
import { existingTables } from "./postgres/copy-tables.ts";
import type { KnownTables } from "./postgres/known-tables.ts";
import { leftTimelineAt, type MainDbIdentity, mainDbIdentity, waitsForStandbys } from "./postgres/main-db-identity.ts";
import { pushWalBeyond } from "./postgres/push-wal.ts";
import { checkSlot, confirmedLsn, dropSlot, slotMoved, slotState } from "./postgres/slot.ts";
import { type SlotAtRest, type SlotAtRestOptions, slotAtRest } from "./postgres/slot-at-rest.ts";
import { SlotBook } from "./slot-book.ts";
import { lossOf, type SlotLoss, slotLost } from "./slot-loss.ts";
import type { SlotRecord } from "./slot-record.ts";
import type { SignalLog } from "./snapshot/signal-log.ts";

export interface SlotStartOptions {
  readonly config: Pick<CdcConfig, "CDC_DATABASE_URL" | "CDC_SLOT" | "CDC_ON_SLOT_LOST">;
  readonly client: pg.Client;
  readonly log: SignalLog;
  readonly hasPublished: boolean;
  readonly warn: (message: string) => void;
}

/**
 * A life's way to its slot: whether it goes on where it was left, and what is done where it does not. A repair is written down before
 * anything of it is done, and until all that no stream will tell is told: killed anywhere between, it begins again.
 */
export class SlotStart {
  readonly book: SlotBook;
  /** The slot was lost: every table is copied anew, emptied by the replicas first. */
  readonly anew: boolean;
  readonly #options: SlotStartOptions;
  readonly #mainDb: MainDbIdentity;

  /** Where the slot stood that was found good, or made; null while there is none. */
  #judged: Lsn | null;

  private constructor(options: SlotStartOptions, book: SlotBook, mainDb: MainDbIdentity, anew: boolean, judged: Lsn | null) {
    this.#options = options;
    this.#judged = judged;
    this.book = book;
    this.#mainDb = mainDb;
    this.anew = anew;
  }

  /** Rejects with SLOT_LOST and its like where changes are missing and are not to be, or cannot be, repaired. */
  static async judge(options: SlotStartOptions): Promise<SlotStart> {
    const { config, client, log, hasPublished, warn } = options;
    const { CDC_SLOT: slotName, CDC_DATABASE_URL: url } = config;
    const book = new SlotBook(log);
    const { record } = book;
    const mainDb = await mainDbIdentity(client);
    const switched = record !== null && record.timeline !== mainDb.timeline && record.systemId === mainDb.systemId;
    const left = switched ? await leftTimelineAt(url, record.timeline, mainDb.timeline) : null;
    const slot = await slotState(client, slotName);
    const loss = lossOf({ slotName, slot, record, mainDb, leftTimelineAt: left, hasPublished });
    if (loss === null) return new SlotStart(options, book, mainDb, false, slot?.confirmedLsn ?? null);
    if (config.CDC_ON_SLOT_LOST === "stop" || !loss.repairable) throw slotLost(loss);
    if (!record?.repair) {
      warn(
        `${loss.what}; CDC_ON_SLOT_LOST=resnapshot: a new slot is made, and every table is emptied and filled on every replica`,
      );
      const { systemId, timeline } = record ?? mainDb;
      const { bound, limit } = record ?? { bound: 0n, limit: 0n };
      const known = { slot: slotName, systemId, timeline, bound, limit, heartbeat: null, synchronized: false };
      await book.write({ ...known, repair: repairOf(loss) });
    }
    return new SlotStart(options, book, mainDb, true, null);
  }

  /** Makes sure of the slot; in a repair makes a new one, beyond all that was published. */
  async make(options: Omit<SlotAtRestOptions, "request">): Promise<SlotAtRest> {
    const { client, config, hasPublished } = this.#options;
    const { CDC_SLOT: slot } = config;
    if (this.anew) {
      if ((await checkSlot(client, slot, { lost: true })) === "found") await dropSlot(client, slot);
      await pushWalBeyond(client, this.book.record?.limit ?? 0n);
    }
    const atRest = await slotAtRest({ ...options, request: { slot, hasPublished: hasPublished && !this.anew } });
    // By somebody else, just now: what the tables were like where it begins, nobody knows.
    if (this.anew && atRest.slot === "found") throw slotMoved(slot);
    this.#judged = atRest.begin ?? this.#judged;
    return atRest;
  }

  /**
   * Where the stream begins. Until it is read anybody may drop the slot and make it anew, or advance it, and what is written down then would
   * hide it: such a slot is for the next life to judge.
   */
  async from(): Promise<Lsn> {
    const { client, config } = this.#options;
    const from = await confirmedLsn(client, config.CDC_SLOT);
    if (this.#judged !== null && from !== this.#judged) throw slotMoved(config.CDC_SLOT);
    return from;
  }

  /** Once the slot is read: it still stands where it was to begin. */
  async checkBegun(from: Lsn): Promise<void> {
    const { client, config } = this.#options;
    if ((await confirmedLsn(client, config.CDC_SLOT)) !== from) throw slotMoved(config.CDC_SLOT);
  }

  /** What is to be announced before the stream begins at `from`. */
  async announcements({ tables, relations, from }: FirstLook): Promise<readonly Announcement[]> {
    if (!this.anew) return tables.begin(relations, from);
    const { systemId = null } = this.book.record ?? {};
    const other = systemId !== null && this.#mainDb.systemId !== null && systemId !== this.#mainDb.systemId;
    return tables.beginAnew(relations, from, await existingTables(this.#options.client, [...tables.history.oids]), other);
  }

  /** From here on the stream tells everything. */
  async settle(from: Lsn, slot: SlotAtRest["slot"]): Promise<void> {
    const { record } = this.book;
    const { systemId, timeline, walEnd, synchronizedStandbys } = this.#mainDb;
    const { CDC_SLOT: name } = this.#options.config;
    const failover = (await slotState(this.#options.client, name))?.failover === true;
    await this.book.write({
      slot: name,
      systemId,
      timeline,
      bound: laterLsn(record?.bound ?? 0n, from),
      // What a version without such records has published is not known, but that main-db has written it.
      limit: laterLsn(record?.limit ?? (slot === "found" ? walEnd : from), from),
      // Of another slot's heartbeats this one's stream brings none.
      heartbeat: this.anew || record?.slot !== name ? null : record.heartbeat,
      synchronized: failover && synchronizedStandbys,
      repair: null,
    });
    if (this.anew) this.#options.warn(`replication slot "${name}" was made anew at ${formatLsn(from)}: every table is copied`);
  }

  /**
   * main-db is told not to wait for its standbys any more, when one of them is away: what is published from then on, a promoted one may
   * lack. That it waits again counts from the next life on.
   */
  async checkStandbys(): Promise<void> {
    if (this.book.record?.synchronized !== true || (await waitsForStandbys(this.#options.client))) return;
    const { record } = this.book;
    if (record !== null) await this.book.write({ ...record, synchronized: false });
  }

  /** The heartbeat that the stream brings first of all that it brings beyond; null when it begins beyond. */
  expected(from: Lsn): Lsn | null {
    const { heartbeat = null, slot } = this.book.record ?? {};
    return heartbeat !== null && heartbeat >= from && slot === this.#options.config.CDC_SLOT ? heartbeat : null;
  }

  /** The heartbeat did not come: main-db was set back without a sign, and has gone on from there. */
  async otherHistory(): Promise<never> {
    const { record } = this.book;
    const { config } = this.#options;
    const loss: SlotLoss = {
      code: "MAIN_DB_SET_BACK",
      what: `main-db's WAL does not hold the heartbeat at ${formatLsn(record?.heartbeat ?? 0n)} that cdc has published: it was set back to an older state (a restored volume or copy), and has gone on from there`,
      repairable: true,
    };
    if (record === null || config.CDC_ON_SLOT_LOST === "stop") throw slotLost(loss);
    await this.book.write({ ...record, repair: repairOf(loss) });
    throw new CascadeError({
      code: loss.code,
      verdict: "retry",
      message: loss.what,
      advice: "nothing to do: CDC_ON_SLOT_LOST=resnapshot copies every table anew",
    });
  }
}

const repairOf = ({ what }: SlotLoss): SlotRecord["repair"] => ({ reason: what, since: new Date().toISOString() });

export interface FirstLook {
  readonly tables: KnownTables;
  /** The catalog, where the slot begins. */
  readonly relations: SlotAtRest["relations"];
  readonly from: Lsn;
}
