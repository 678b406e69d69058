import { JsonBytes } from "@cascade/shared/json-bytes";
import type { Lsn } from "@cascade/shared/lsn";
import { parseLsn } from "@cascade/shared/lsn";
import { pause } from "@cascade/shared/retry";
import type pg from "pg";
import type { ChangeSource, SourceMessage } from "../change-source.ts";
import type { ChangeDecoder } from "./change-decoder.ts";
import { disconnect, postgresError } from "./session.ts";
import { advanceSlot, slotMoved, slotReadError } from "./slot.ts";
import { UNDECODABLE } from "./undecodable.ts";
import type { PluginOptions } from "./wal2json.ts";

/** The server stops at the first commit past this many messages, and holds the answer in memory: one transaction is never cut. */
const MAX_MESSAGES_PER_PEEK = 10_000;
/** An idle database releases its WAL this often: every advance is a write on the server. */
const IDLE_ADVANCE_INTERVAL_MS = 5000;

export interface PollSourceOptions {
  /** An ordinary session, owned from here on. */
  readonly client: pg.Client;
  readonly slot: string;
  readonly pluginOptions: PluginOptions;
  readonly decoder: ChangeDecoder;
  /** The slot's confirmed LSN. */
  readonly from: Lsn;
  readonly intervalMs: number;
}

interface PlaceRow {
  readonly end: string;
  /** null without a slot: the peek says so. */
  readonly confirmed: string | null;
}

const PLACE = `
  SELECT pg_current_wal_flush_lsn()::text AS end,
         (SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1) AS confirmed`;

interface PeekRow {
  readonly data: string;
}

/** After a peek that failed each one asks for more again, by this factor. */
const GROWTH = 10;

/**
 * Reads the slot by SQL, for servers that allow no replication connection: peek, hand over, and only when everything handed over is
 * confirmed, advance (facts.md §1.7: `get_changes` loses rows when the client dies).
 */
export class PollSource implements ChangeSource {
  readonly #options: PollSourceOptions;
  #undecodable: unknown = null;
  #confirmed: Lsn = 0n;
  #advanced: Lsn;
  #advancedAtMs = Number.NEGATIVE_INFINITY;
  /** The last peek found nothing: what is confirmed then is a keepalive's. */
  #idle = false;
  #maxMessages = MAX_MESSAGES_PER_PEEK;

  constructor(options: PollSourceOptions) {
    this.#options = options;
    this.#advanced = options.from;
  }

  async *messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    while (!signal.aborted) {
      if (this.#undecodable !== null) throw this.#undecodable;
      const before = this.#confirmed;
      const messages = await this.#poll();
      yield messages;
      // Whoever pulls again without having confirmed gets the same transactions again: the slot has not moved.
      if (this.#idle || this.#confirmed === before) await pause(this.#options.intervalMs, signal);
    }
  }

  confirm(through: Lsn): void {
    if (through > this.#confirmed) this.#confirmed = through;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#advance(true).catch(() => undefined); // the next start reads those transactions again
    await disconnect(this.#options.client);
  }

  async #poll(): Promise<readonly SourceMessage[]> {
    const { client, slot } = this.#options;
    try {
      const { end = "0/0", confirmed } = (await client.query<PlaceRow>(PLACE, [slot])).rows[0] ?? {};
      // Nobody holds it between two polls.
      if (confirmed !== undefined && confirmed !== null && parseLsn(confirmed) > this.#advanced) throw slotMoved(slot);
      await this.#advance(false);
      const rows = await this.#peek(end);
      const messages = await this.#decode(rows);
      this.#idle = rows.length === 0;
      // Everything that ends up to there has been seen: the database was idle, or wrote nothing that is captured.
      if (this.#idle) messages.push({ kind: "keepalive", walEnd: parseLsn(end) });
      return messages;
    } catch (error) {
      throw slotReadError(error, slot, "cannot read the slot by SQL");
    }
  }

  /** What cannot be decoded is thrown at the next poll, once what came before it was handed over. */
  async #decode(rows: readonly PeekRow[]): Promise<SourceMessage[]> {
    const { decoder } = this.#options;
    const messages: SourceMessage[] = [];
    decoder.delivered();
    try {
      for (const { data } of rows) {
        const pending = decoder.decodeOne(JsonBytes.of(data), messages);
        if (pending !== null) await pending;
      }
    } catch (error) {
      if (messages.length === 0) throw error;
      this.#undecodable = error;
    }
    return messages;
  }

  async #peek(end: string): Promise<readonly PeekRow[]> {
    const { client, slot, pluginOptions } = this.#options;
    const options = Object.entries(pluginOptions).flat();
    const marks = options.map((_, at) => `$${at + 3}`).join(", ");
    const text = `SELECT data FROM pg_logical_slot_peek_changes($1, $2, ${this.#maxMessages}, ${marks})`;
    try {
      const { rows } = await client.query<PeekRow>(text, [slot, end, ...options]);
      this.#maxMessages = Math.min(this.#maxMessages * GROWTH, MAX_MESSAGES_PER_PEEK);
      return rows;
    } catch (error) {
      // One transaction at a time: those before the one that fails are confirmed then.
      if (this.#maxMessages === 1 || postgresError(error, "peeking").code !== UNDECODABLE) throw error;
      this.#maxMessages = 1;
      return await this.#peek(end);
    }
  }

  async #advance(now: boolean): Promise<void> {
    if (this.#confirmed <= this.#advanced) return;
    const idle = this.#idle && !now && performance.now() - this.#advancedAtMs < IDLE_ADVANCE_INTERVAL_MS;
    if (idle) return;
    const { client, slot } = this.#options;
    await advanceSlot(client, slot, this.#confirmed);
    this.#advanced = this.#confirmed;
    this.#advancedAtMs = performance.now();
  }
}
