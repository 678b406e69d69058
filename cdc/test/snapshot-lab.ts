import { type OwnedEvent, withOwnRows } from "@cascade/shared/change-event";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { batchesOf } from "../src/batching.ts";
import type { ChangeSource } from "../src/change-source.ts";
import { Catalog } from "../src/postgres/catalog.ts";
import { ChunkReader } from "../src/postgres/chunk-reader.ts";
import { copyTables, existingTables } from "../src/postgres/copy-tables.ts";
import { connect } from "../src/postgres/session.ts";
import type { SnapshotReport } from "../src/snapshot/report.ts";
import { Requests } from "../src/snapshot/requests.ts";
import type { SignalLog, SignalMessage } from "../src/snapshot/signal-log.ts";
import { decodeState, type StateMessage } from "../src/snapshot/signals.ts";
import { Snapshotter } from "../src/snapshot/snapshotter.ts";
import { SILENT } from "./silent-report.ts";
import { cleanups, type Lab, type Mode, open } from "./source-lab.ts";

/** Copies of tables on a real server, beside a real stream, into memory. */

/** `<prefix>.signals` in memory: outlives the lives of a test. */
export class MemoryLog implements SignalLog {
  readonly messages = new Map<string, string>();
  #news: SignalMessage[] = [];
  #wake: () => void = () => undefined;

  async next(signal: AbortSignal): Promise<readonly SignalMessage[]> {
    while (this.#news.length === 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
    return this.#news.splice(0);
  }

  async write(messages: readonly SignalMessage[]): Promise<void> {
    await Bun.sleep(1);
    for (const { key, value } of messages) this.messages.set(key, value ?? "");
  }

  /** What anybody may write. */
  send(key: string, value: string): void {
    this.messages.set(key, value);
    this.#news.push({ key, value });
    this.#wake();
  }

  states(): readonly StateMessage[] {
    return [...this.messages.values()]
      .filter((value) => decodeState(value) !== null)
      .map((value) => JSON.parse(value) as StateMessage);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

export interface LifeOptions {
  readonly mode?: Mode;
  readonly log: MemoryLog;
  readonly chunkRows?: number;
  readonly initial?: boolean;
  readonly onEvents?: (events: readonly OwnedEvent[]) => Promise<void> | void;
  readonly report?: SnapshotReport;
}

/** One life of cdc without Kafka: everything that it would have published, in order. */
export class Life {
  readonly events: OwnedEvent[] = [];
  readonly #stop = new AbortController();
  #ended: Promise<unknown> = Promise.resolve();
  failure: unknown = null;

  static async start(
    lab: Lab,
    { mode = "stream", log, chunkRows = 100, initial = true, ...options }: LifeOptions,
  ): Promise<Life> {
    const life = new Life();
    const session = await connect(lab.url);
    const filter = parseTableFilter("public.*");
    const catalog = new Catalog(session, filter, "cascade");
    const report = options.report ?? SILENT;
    const openReader = () => ChunkReader.open({ databaseUrl: lab.url, filter, topicPrefix: "cascade", chunkRows });
    const snapshotter = new Snapshotter({ openReader, log, report, initial });
    const tables = () => copyTables(session, catalog);
    const existing = (oids: readonly number[]) => existingTables(session, oids);
    const requests = new Requests({ log, report, snapshotter, tables, existing, initial, anew: false });
    await requests.resume();
    const inner = await open(mode, lab);
    const source = snapshotter.merged(inner);
    const { signal } = life.#stop;
    const running = Promise.all([life.#pump(source, options, signal), snapshotter.run(signal), requests.listen(signal)]);
    const ended = running.catch((error: unknown) => {
      if (!signal.aborted) life.failure = error;
    });
    life.#ended = ended.then(async () => {
      await inner[Symbol.asyncDispose]();
      await session.end();
    });
    cleanups.push(() => life.stop());
    return life;
  }

  async #pump(source: ChangeSource, { onEvents }: Pick<LifeOptions, "onEvents">, signal: AbortSignal): Promise<void> {
    for await (const messages of source.messages(signal)) {
      for (const batch of batchesOf(messages, { maxRows: 500, maxBytes: 1e6 })) {
        const events = batch.events.map(withOwnRows);
        this.events.push(...events);
        await onEvents?.(events);
        if (signal.aborted) return;
        if (batch.confirmable !== null) source.confirm(batch.confirmable);
      }
    }
  }

  /** In the middle of whatever it is doing. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }

  async until(reached: (life: Life) => boolean, withinMs = 20_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (!reached(this)) {
      if (this.failure !== null) throw this.failure;
      if (performance.now() > deadline) throw new Error(`not reached within ${withinMs} ms, after ${this.events.length} events`);
      await Bun.sleep(5);
    }
  }
}

export const isDone =
  (log: MemoryLog, request: string, tables = 1) =>
  (): boolean =>
    log.states().filter((state) => state.request === request && state.status !== "waiting" && state.status !== "copying")
      .length >= tables;
