import type { CascadeError } from "@cascade/shared/errors";
import { pause } from "@cascade/shared/retry";
import type pg from "pg";
import { openSession, postgresError, type Session } from "./session.ts";
import { slotActive } from "./slot.ts";

/** Of Cascade's advisory locks: "casc" in ASCII. */
const LOCK_CLASS = 0x63617363;
const BEAT_INTERVAL_MS = 1_000;
/** A beat that is not answered within this has found main-db away. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Looks, at least a second apart, at a holder that does nothing: it beats every second. */
const FROZEN_LOOKS = 10;
const FROZEN_MS = 10_000;

interface HolderRow {
  readonly pid: number;
  readonly state: string | null;
  /** When it last began or ended a query; null when the role may not see it. */
  readonly beat: string | null;
  /** Who streams the slot. */
  readonly streamer: number | null;
}

const HOLDER = `
  SELECT l.pid, a.state, a.query_start::text || ' ' || a.state_change::text AS beat,
         (SELECT active_pid FROM pg_replication_slots WHERE slot_name = $2) AS streamer
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
   WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = $1 AND l.objid::bigint = hashtext($2)::bigint & 4294967295
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/**
 * Looks on from one life to the next at the cdc that holds the slot, and ends its sessions when it has done nothing for ten looks and
 * ten seconds by this cdc's own clock: its host is frozen or cut off, and main-db would keep the slot for it for a minute
 * (wal_sender_timeout) or for ever (CDC_MODE=poll).
 */
export class StandbyWatch {
  readonly #slot: string;
  readonly #warn: (message: string) => void;
  #seen: { readonly pid: number; readonly beat: string; readonly sinceMs: number } | null = null;
  #looks = 0;
  #mayNot = false;
  /** Was found frozen, and told to end. */
  #ended: number | null = null;

  constructor(slot: string, warn: (message: string) => void) {
    this.#slot = slot;
    this.#warn = warn;
  }

  /** Resolves to whether the holder was found frozen, and its sessions ended. */
  async look(client: pg.Client): Promise<boolean> {
    const { rows } = await client.query<HolderRow>(HOLDER, [LOCK_CLASS, this.#slot]);
    const holder = rows[0];
    this.#ended = null;
    // One that waits for main-db's answer has asked, and one that may not be seen may be well.
    if (holder === undefined || holder.beat === null || holder.state !== "idle") return this.#forget();
    if (this.#seen?.pid !== holder.pid || this.#seen.beat !== holder.beat) {
      this.#seen = { pid: holder.pid, beat: holder.beat, sinceMs: performance.now() };
      this.#looks = 0;
      return false;
    }
    this.#looks++;
    if (this.#looks < FROZEN_LOOKS || performance.now() - this.#seen.sinceMs < FROZEN_MS) return false;
    return await this.#end(client, holder);
  }

  /**
   * A walsender that was told to end says goodbye first, and waits for ever where nobody reads it: told again, it goes without. Asked
   * while this cdc has the lock: who streams then is the one that was found frozen.
   */
  async endAgain(client: pg.Client): Promise<void> {
    if (this.#ended === null) return;
    await client.query(
      "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid = $2",
      [this.#slot, this.#ended],
    );
  }

  #forget(): false {
    this.#seen = null;
    this.#looks = 0;
    return false;
  }

  async #end(client: pg.Client, { pid, streamer }: HolderRow): Promise<boolean> {
    this.#forget();
    try {
      // The streamer first: the lock keeps others out until it is gone.
      if (streamer !== null) await client.query("SELECT pg_terminate_backend($1)", [streamer]);
      await client.query("SELECT pg_terminate_backend($1)", [pid]);
      this.#ended = streamer;
      this.#warn(
        `the cdc that held replication slot "${this.#slot}" has not moved for ${FROZEN_MS / 1_000} s: its sessions on main-db were ended, and this one takes over`,
      );
      return true;
    } catch (error) {
      if (!this.#mayNot)
        this.#warn(
          `the cdc that holds replication slot "${this.#slot}" does not move, and its sessions cannot be ended (${postgresError(error, "pg_terminate_backend").message}): let both use the same role`,
        );
      this.#mayNot = true;
      return false;
    }
  }
}

/** The one cdc that may read the slot, in either mode: for as long as its session has the lock. */
export class SlotHolder implements AsyncDisposable {
  readonly #session: Session;
  readonly #stop = new AbortController();
  readonly #lost = Promise.withResolvers<never>();
  readonly #beating: Promise<void>;

  private constructor(session: Session) {
    this.#session = session;
    this.#lost.promise.catch(() => undefined); // `lost` says it
    this.#beating = this.#beat();
  }

  /** Rejects with SLOT_ACTIVE while another one has it. */
  static async take(databaseUrl: string, slot: string, standby: StandbyWatch): Promise<SlotHolder> {
    const session = await openSession(databaseUrl);
    try {
      const { rows } = await session.client.query<{ readonly taken: boolean }>(
        "SELECT pg_try_advisory_lock($1, hashtext($2)) AS taken",
        [LOCK_CLASS, slot],
      );
      if (rows[0]?.taken === true) {
        await standby.endAgain(session.client);
        return new SlotHolder(session);
      }
      throw slotActive(slot, undefined, (await standby.look(session.client)) ? TAKES_OVER_MS : undefined);
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw postgresError(error, `cannot take replication slot "${slot}"`);
    }
  }

  /** Rejects when the lock may be another's by now. */
  get lost(): Promise<never> {
    return this.#lost.promise;
  }

  /** Shows whoever waits for the slot that this process lives. */
  async #beat(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await pause(BEAT_INTERVAL_MS, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      try {
        await answeredInTime(this.#session.client.query("SELECT 1"));
      } catch (error) {
        return this.#lost.reject(holdLost(error));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#session[Symbol.asyncDispose]();
    await this.#beating;
  }
}

/** Sessions that were told to end do so within this. */
const TAKES_OVER_MS = 200;

const holdLost = (error: unknown): CascadeError => postgresError(error, "the session that holds the slot is gone");

async function answeredInTime(answer: Promise<unknown>): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer for ${ANSWER_TIMEOUT_MS / 1_000} s`)), ANSWER_TIMEOUT_MS);
  answer.catch(() => undefined); // when the deadline won
  try {
    await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
