import type { CascadeError } from "@cascade/shared/errors";
import { JsonBytes } from "@cascade/shared/json-bytes";
import type { Lsn } from "@cascade/shared/lsn";
import { pause } from "@cascade/shared/retry";
import type pg from "pg";
import type { ChangeSource, SourceMessage } from "../change-source.ts";
import { BytePages } from "./byte-pages.ts";
import type { ChangeDecoder } from "./change-decoder.ts";
import { readReplicationMessage, startReplication, statusUpdate, XLOG_DATA_HEADER_BYTES } from "./replication-protocol.ts";
import { disconnect } from "./session.ts";
import { slotReadError } from "./slot.ts";
import { promptly, UNDECODABLE } from "./undecodable.ts";
import type { PluginOptions } from "./wal2json.ts";

/** At most this much waits undecoded; past it the socket is paused, and the WAL stays on the server. */
const MAX_BUFFERED_BYTES = 2 * 1024 * 1024;
/** Well under wal_sender_timeout (60 s by default). */
const STATUS_INTERVAL_MS = 1000;
/**
 * Of two that tell of what is confirmed: each wakes the walsender up, and takes more of both than a small batch's rows. Commits that wait for
 * cdc (`synchronous_standby_names`) wait that much longer.
 */
const CONFIRM_INTERVAL_MS = 50;
/** A walsender in the middle of a large transaction goes on to its end: then only closing the connection stops it. */
const STOP_TIMEOUT_MS = 1000;
/** Under load there is always this much waiting, and the linger does not apply. */
const FULL_ENOUGH_MESSAGES = 1000;
const FULL_ENOUGH_BYTES = 256 * 1024;

/** The part of pg's connection that carries CopyBoth (facts.md §4); @types/pg leaves it out. */
interface CopyConnection {
  readonly stream: { pause(): void; resume(): void };
  on(event: "copyData", listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: "replicationStart", listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

export interface WalSourceOptions {
  /** A walsender session, owned from here on. */
  readonly client: pg.Client;
  readonly slot: string;
  readonly pluginOptions: PluginOptions;
  readonly decoder: ChangeDecoder;
  /** The slot's confirmed LSN: told again until there is more to confirm, or main-db would end a stream that says nothing. */
  readonly from: Lsn;
  /** Handed over at once at most: what is decoded is held until it is published. */
  readonly maxMessages: number;
  /** Shortest time from one delivery to the next while little comes: fewer, larger batches. The first after a pause goes at once. */
  readonly lingerMs: number;
  /** Moves the slot over another session. */
  readonly advance: (through: Lsn) => Promise<void>;
}

/** Streams the slot over a replication connection. */
export class WalSource implements ChangeSource {
  readonly #client: pg.Client;
  readonly #slot: string;
  readonly #connection: CopyConnection;
  readonly #decoder: ChangeDecoder;
  readonly #timer: Timer;
  /** In WAL order: a message, or the end of the WAL that a keepalive told. */
  #buffer: (JsonBytes | Lsn)[] = [];
  readonly #pages = new BytePages({ areGivenBack: true });
  #bufferedBytes = 0;
  #paused = false;
  #confirmed: Lsn;
  #statusSentAtMs = Number.NEGATIVE_INFINITY;
  #statusDue: Timer | null = null;
  #failure: CascadeError | null = null;
  /** Settles when the server has ended the stream; null before it has begun. */
  #streaming: Promise<void> | null = null;
  #disposed = false;
  #wake: (() => void) | null = null;
  readonly #lingerMs: number;
  readonly #maxMessages: number;
  /** What could not be decoded; thrown once what came before it was handed over. */
  #undecodable: unknown = null;
  #deliveredAtMs = 0;
  /** The last delivery is being published. */
  #isHandedOver = false;
  /** The next delivery. */
  #ahead: Promise<readonly SourceMessage[]> | null = null;
  #isAheadDue = false;
  /** The stream has brought a whole transaction: the next one begins behind it. */
  #hasCommitted = false;
  readonly #from: Lsn;
  readonly #advance: WalSourceOptions["advance"];

  private constructor({ client, slot, decoder, from, lingerMs, maxMessages, advance }: WalSourceOptions) {
    this.#client = client;
    this.#slot = slot;
    this.#from = this.#confirmed = from;
    this.#advance = advance;
    this.#lingerMs = lingerMs;
    this.#maxMessages = maxMessages;
    this.#connection = (client as unknown as { readonly connection: CopyConnection }).connection;
    this.#decoder = decoder;
    this.#connection.on("copyData", ({ chunk }) => this.#receive(chunk));
    this.#timer = setInterval(() => this.#sendStatus(), STATUS_INTERVAL_MS);
  }

  /** Rejects with SLOT_ACTIVE (retry) while another walsender holds the slot. */
  static async open(options: WalSourceOptions): Promise<WalSource> {
    const source = new WalSource(options);
    try {
      await source.#start(startReplication(options.slot, options.pluginOptions));
      return source;
    } catch (error) {
      await source[Symbol.asyncDispose]();
      throw slotReadError(error, options.slot, "cannot stream from main-db");
    }
  }

  /** Resolves when the stream has begun; a failure after that ends `messages`. */
  async #start(command: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#connection.once("replicationStart", resolve);
      this.#streaming = this.#client.query(command).then(
        () => this.#fail(new Error("main-db ended the stream")),
        (error: unknown) => {
          reject(error); // no effect once it has begun
          this.#fail(error);
        },
      );
    });
  }

  async *messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    const wake = () => this.#wake?.();
    signal.addEventListener("abort", wake);
    try {
      while (!signal.aborted) {
        if (this.#ahead !== null) {
          const messages = await this.#ahead;
          this.#ahead = null;
          this.#deliveredAtMs = performance.now();
          if (messages.length > 0) yield* this.#handOver(messages);
          continue;
        }
        if (this.#undecodable !== null) throw this.#undecodable;
        if (this.#buffer.length === 0) {
          if (this.#failure !== null) throw this.#hasCommitted ? promptly(this.#failure) : this.#failure;
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = null;
          continue;
        }
        await this.#linger(signal);
        const messages = await this.#decode(this.#take());
        if (messages.length > 0) yield* this.#handOver(messages);
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  *#handOver(messages: readonly SourceMessage[]): Iterable<readonly SourceMessage[]> {
    this.#hasCommitted ||= messages.some(({ kind }) => kind === "commit");
    this.#isHandedOver = true;
    setImmediate(() => this.#decodeAhead()); // once what is handed over is on its way to Kafka
    try {
      yield messages;
    } finally {
      this.#isHandedOver = false;
    }
  }

  /** While Kafka is waited for. */
  #decodeAhead(): void {
    this.#isAheadDue = false;
    if (this.#mayDecodeAhead) this.#ahead = this.#decode(this.#take());
  }

  /** Only what is enough to be handed over without lingering. What may have lost numbers is asked for after each delivery. */
  get #mayDecodeAhead(): boolean {
    if (!this.#isHandedOver || this.#ahead !== null || this.#undecodable !== null || this.#disposed) return false;
    return !this.#decoder.losesNumbers && this.#isFullEnough;
  }

  get #isFullEnough(): boolean {
    return this.#buffer.length >= FULL_ENOUGH_MESSAGES || this.#bufferedBytes >= FULL_ENOUGH_BYTES;
  }

  async #linger(signal: AbortSignal): Promise<void> {
    const waitMs = this.#deliveredAtMs + this.#lingerMs - performance.now();
    if (waitMs > 0 && !this.#isFullEnough) await pause(waitMs, signal);
    this.#deliveredAtMs = performance.now();
  }

  confirm(through: Lsn): void {
    if (through <= this.#confirmed) return;
    this.#confirmed = through;
    if (this.#statusDue !== null || this.#disposed) return;
    const waitMs = this.#statusSentAtMs + CONFIRM_INTERVAL_MS - performance.now();
    if (waitMs <= 0) this.#sendStatus();
    else this.#statusDue = setTimeout(() => this.#sendStatus(), waitMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    if (this.#statusDue !== null) clearTimeout(this.#statusDue);
    this.#disposed = true;
    if (this.#streaming !== null && this.#failure === null) {
      this.#sendStatus();
      // Ended in good order: closing a socket with data unread resets it, and the last status with it.
      this.#connection.endCopyFrom();
      this.#connection.stream.resume();
      await Promise.race([this.#streaming, Bun.sleep(STOP_TIMEOUT_MS)]);
    }
    await disconnect(this.#client);
    // The walsender ended before it read what was confirmed last.
    if (this.#failure?.code === UNDECODABLE && this.#confirmed > this.#from)
      await this.#advance(this.#confirmed).catch(() => undefined); // the next stream begins where this one did
  }

  #receive(chunk: Buffer): void {
    if (this.#disposed) return;
    const message = readReplicationMessage(chunk);
    if (message.kind === "data") {
      this.#buffer.push(this.#copied(chunk));
      this.#bufferedBytes += chunk.length;
      if (this.#bufferedBytes > MAX_BUFFERED_BYTES && !this.#paused) {
        this.#paused = true;
        this.#connection.stream.pause();
      }
    } else {
      if (message.replyRequested) this.#sendStatus();
      this.#buffer.push(message.walEnd);
    }
    this.#wake?.();
    if (!this.#isAheadDue && this.#mayDecodeAhead) {
      this.#isAheadDue = true;
      queueMicrotask(() => this.#decodeAhead());
    }
  }

  /** pg reuses its buffer. */
  #copied(chunk: Buffer): JsonBytes {
    const page = this.#pages.reserve(chunk.length);
    const start = this.#pages.at;
    const end = start + chunk.copy(page, start, XLOG_DATA_HEADER_BYTES);
    this.#pages.wrote(end);
    return new JsonBytes(page, start, end);
  }

  #take(): readonly (JsonBytes | Lsn)[] {
    const taken = this.#buffer.length <= this.#maxMessages ? this.#buffer : this.#buffer.slice(0, this.#maxMessages);
    this.#buffer = taken === this.#buffer ? [] : this.#buffer.slice(this.#maxMessages);
    for (const item of taken) if (item instanceof JsonBytes) this.#bufferedBytes -= item.length + XLOG_DATA_HEADER_BYTES;
    if (this.#paused && this.#bufferedBytes < MAX_BUFFERED_BYTES / 2) {
      this.#paused = false;
      this.#connection.stream.resume();
    }
    return taken;
  }

  async #decode(items: readonly (JsonBytes | Lsn)[]): Promise<readonly SourceMessage[]> {
    const messages: SourceMessage[] = [];
    this.#decoder.delivered();
    try {
      for (const item of items) {
        if (item instanceof JsonBytes) {
          const pending = this.#decoder.decodeOne(item, messages);
          if (pending !== null) await pending;
        } else if (!this.#decoder.inTransaction) {
          messages.push({ kind: "keepalive", walEnd: item });
        }
      }
    } catch (error) {
      this.#undecodable = error;
    }
    const next = this.#buffer.find((item) => item instanceof JsonBytes);
    this.#pages.giveBackBefore(next?.bytes ?? null);
    return messages;
  }

  #sendStatus(): void {
    if (this.#statusDue !== null) clearTimeout(this.#statusDue);
    this.#statusDue = null;
    this.#statusSentAtMs = performance.now();
    if (this.#failure !== null || this.#confirmed === 0n) return;
    this.#connection.sendCopyFromChunk(statusUpdate(this.#confirmed, Date.now()));
  }

  #fail(error: unknown): void {
    this.#failure ??= slotReadError(error, this.#slot, "the stream from main-db broke");
    this.#wake?.();
  }
}
