import { CascadeError } from "@cascade/shared/errors";
import { FewAtOnce } from "@cascade/shared/few-at-once";
import type { Lsn } from "@cascade/shared/lsn";
import { Signal } from "@cascade/shared/signal";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { ChangeSource } from "../change-source.ts";
import { Copies, type Copy } from "./copies.ts";
import { type CopyJob, type CopyState, INITIAL, LEFT, mustBeDone, TABLE_GONE, WAITING, WHOLE } from "./copy-job.ts";
import { CopyQueue } from "./copy-queue.ts";
import { type CopyingContext, type CopyOutcome, copyKeyed, copyKeyless } from "./copying.ts";
import type { KeylessCopy, TableNews } from "./keyless-copy.ts";
import { MergedSource } from "./merged-source.ts";
import type { SnapshotReport } from "./report.ts";
import type { SignalLog } from "./signal-log.ts";
import { StateWriter } from "./state-writer.ts";
import type { CopyTable, TableReader } from "./table-reader.ts";
import { untilOver } from "./until-over.ts";

/** A copy that main-db refuses is tried again after this long. */
const TRY_AGAIN_MS = 10_000;

const PRUNE_INTERVAL_MS = 5_000;

export interface SnapshotterOptions {
  readonly openReader: () => Promise<TableReader>;
  readonly log: SignalLog;
  readonly report: SnapshotReport;
  /** CDC_SNAPSHOT=initial: a table that was never copied is. */
  readonly initial: boolean;
}

/** Copies tables, large ones one after the other, beside the stream. One for each life. */
export class Snapshotter {
  readonly #options: SnapshotterOptions;
  readonly #copies: Copies;
  readonly #writer: StateWriter;
  readonly #changed = new Signal();
  readonly #failed = Promise.withResolvers<never>();
  #source: MergedSource | null = null;
  /** Tables whose initial copy is done, or under way. */
  readonly #met = new Set<number>();
  readonly #queue: CopyQueue;
  /** Copies of tables whose changes were not looked at from the beginning of the life. */
  readonly #unsettled = new Set<CopyJob>();

  constructor(options: SnapshotterOptions) {
    this.#options = options;
    const onTable = (news: TableNews): void => {
      if (news.kind === "dropped") return;
      if (news.kind === "left") this.#leave(initialJob(news));
      else if (news.rewritten) this.#again(news.schema, news.returned === true);
      else this.meet(news.schema, null);
    };
    this.#copies = new Copies(onTable, { fillsReturned: options.initial });
    this.#queue = new CopyQueue(this.#copies);
    this.#writer = new StateWriter(options.log, (error) => this.#failed.reject(error));
    this.#failed.promise.catch(() => undefined); // `run` says it
  }

  get copies(): Copies {
    return this.#copies;
  }

  /** A table that is captured: copied when it never was. */
  meet(schema: TableSchema, size: CopyTable | null): void {
    if (size !== null) this.#queue.size(size);
    if (!this.#options.initial || this.#met.has(schema.oid)) return;
    const empties = this.#copies.returned(schema.oid);
    this.add(initialJob(schema), { ...WAITING, empties, estimatedRows: size?.estimatedRows ?? null }, schema);
  }

  /** The table's rows have changed past the WAL: what was copied of it is not what is there. */
  #again(schema: TableSchema, returned: boolean): void {
    if (!this.#options.initial) {
      this.#options.report.warn(
        `the rows of ${formatTableName(schema)} were rewritten by a schema change, which is not in the WAL: ask for a snapshot of it`,
      );
      return;
    }
    const replaced = this.#takeOut(schema.oid);
    // Of a table without a key deletes are kept back from here on: should it get one before it is copied, its rows must go first.
    const empties =
      this.#copies.returned(schema.oid) ||
      returned ||
      schema.key.length === 0 ||
      replaced.some(({ kind, state }) => kind === "keyless" || (state.empties && !state.begun));
    const contains = replaced.map(containedBy).find((through) => through !== null) ?? null;
    // Written down before the change is confirmed.
    this.#writer.note(this.add(initialJob(schema), { ...WAITING, empties, contains }, schema));
  }

  /** From here on its changes are in no topic. Written down before that is confirmed. */
  #leave(job: CopyJob): void {
    this.#takeOut(job.oid);
    this.left(job.oid);
    this.#writer.note({ job, state: LEFT });
  }

  /** The table's initial copies, which go no further. */
  #takeOut(oid: number): readonly Copy[] {
    const copies = this.#copies.all.filter(({ job }) => job.oid === oid && job.request === INITIAL);
    for (const copy of copies) {
      this.#copies.remove(copy);
      this.#options.report.replaced(copy);
    }
    return copies;
  }

  /** A table that was captured once, and is not: when it comes back the replicas empty it, and it is copied anew. */
  left(oid: number): void {
    this.#met.delete(oid);
    this.#copies.left(oid);
  }

  /** A table whose initial copy is done. */
  know(oid: number, state: CopyState): void {
    this.#met.add(oid);
    this.contain(oid, state);
  }

  /** A copy that is done: the slot may tell again what it contains. */
  contain(oid: number, { contains }: CopyState): void {
    if (contains !== null) this.#copies.contain(oid, contains);
  }

  add(job: CopyJob, state: CopyState, schema: Pick<TableSchema, "key">): Copy {
    if (job.request === INITIAL) this.#met.add(job.oid);
    const copy = this.#copies.add(job, state, schema);
    // Before anything that it keeps back is confirmed: a later life would go on where the copy by chunks was.
    if (copy.kind === "keyless" && state.keyShape !== null) this.#writer.note(copy);
    this.#unsettled.add(job);
    this.#options.report.waiting(copy);
    this.#notify();
    return copy;
  }

  save(copies: readonly Copy[]): Promise<void> {
    return this.#writer.save(...copies);
  }

  merged(source: ChangeSource): ChangeSource {
    this.#source = new MergedSource(source, this.#copies, this.#writer, () => this.#onPublished());
    return this.#source;
  }

  #onPublished(): void {
    if (this.#copies.all.length === 0) return;
    for (const copy of this.#copies.all) {
      if (copy.kind !== "keyed" || !copy.published()) continue;
      this.#options.report.progress(copy);
      void this.#writer.save(copy);
    }
    this.#notify();
  }

  #notify(): void {
    this.#changed.notify();
    this.#source?.notify();
  }

  /** Resolves when `signal` aborts; rejects with a CascadeError. */
  async run(signal: AbortSignal): Promise<void> {
    const wake = () => this.#notify();
    signal.addEventListener("abort", wake);
    try {
      await Promise.race([this.#run(signal), this.#failed.promise]);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#copies.all.length === 0) await this.#changed.wait();
      else await this.#copyAll(signal);
    }
  }

  /** With sessions of its own, for as long as there is something to copy. */
  async #copyAll(signal: AbortSignal): Promise<void> {
    await using reader = await this.#options.openReader();
    // Whatever it is waiting for: a lock may take for ever.
    const close = () => void reader[Symbol.asyncDispose]();
    signal.addEventListener("abort", close, { once: true });
    // A table that is locked for long is not looked at, and the list of what a look must see would grow.
    const pruning = setInterval(() => {
      reader.snapshot().then(
        (snapshot) => this.#copies.saw(snapshot),
        () => undefined, // whoever reads says it
      );
    }, PRUNE_INTERVAL_MS);
    const turns = new FewAtOnce(1);
    let failure: { readonly error: unknown } | null = null;
    const begin = (copy: Copy): void => {
      const end = this.#queue.begin(copy);
      const failed = (error: unknown) => {
        failure ??= { error };
      };
      void this.#copyOne({ reader, turns, signal }, copy)
        .catch(failed)
        .then(() => {
          end();
          this.#notify();
        });
    };
    try {
      while ((this.#copies.all.length > 0 || !this.#queue.isIdle) && !signal.aborted) {
        if (this.#unsettled.size > 0) await this.#settle(reader, signal);
        if (failure !== null) throw (failure as { readonly error: unknown }).error;
        const copy = this.#queue.next(({ job }) => !this.#unsettled.has(job));
        if (copy !== null) begin(copy);
        else if (this.#unsettled.size === 0) await this.#changed.wait();
      }
    } finally {
      clearInterval(pruning);
      signal.removeEventListener("abort", close);
    }
  }

  async #copyOne(reading: Pick<CopyingContext, "reader" | "turns" | "signal">, copy: Copy): Promise<void> {
    this.#options.report.begins(copy);
    const source = this.#source;
    if (source === null) throw new TypeError("tables are copied into a stream");
    const { report } = this.#options;
    const save = (changed: Copy) => this.save([changed]);
    const context: CopyingContext = { ...reading, copies: this.#copies, source, changed: this.#changed, report, save };
    try {
      const outcome = await (copy.kind === "keyed" ? copyKeyed(context, copy) : copyKeyless(context, copy));
      await this.#ended(copy, outcome);
    } catch (error) {
      if (!(error instanceof CascadeError) || error.verdict !== "stop-table") throw error;
      await this.#refused(copy, error);
    }
  }

  /** @param began what was taken up, which may stand under another object by now */
  async #ended(began: Copy, outcome: CopyOutcome): Promise<void> {
    if (outcome.kind === "done") return this.#end(outcome.copy, "done");
    const copy = this.#now(began);
    // It may have been taken out meanwhile, and another be there for the table.
    if (outcome.kind === "over" || !this.#copies.has(copy)) return;
    if (outcome.kind === "gone") return this.#gone(copy);
    this.#becomes(copy, outcome.key);
  }

  #now(began: Copy): Copy {
    return this.#copies.all.find(({ job }) => job === began.job) ?? began;
  }

  async #refused(began: Copy, error: CascadeError): Promise<void> {
    const copy = this.#now(began);
    if (!this.#copies.has(copy)) return;
    if (copy.kind === "keyless") return this.#refusedKeyless(copy, error);
    this.#tell(copy, error);
    if (!mustBeDone(copy.job) && !copy.state.empties) return this.#end(copy, "failed");
    copy.giveUpAll();
    await this.#later(copy);
  }

  async #refusedKeyless(copy: KeylessCopy, error: CascadeError): Promise<void> {
    this.#tell(copy, error);
    // What is held of it is nowhere else. Before its mark there is nothing, nor a mark to come that wakes the stream.
    if (copy.isMarked) await this.#source?.offer(() => copy.giveUp());
    // Once some of it may be out, replicas have a part of the table alone.
    if (!mustBeDone(copy.job) && !copy.state.begun) return this.#end(copy, "failed");
    if (!this.#copies.has(copy)) return;
    this.#unsettled.add(copy.job);
    const fresh = copy.afresh();
    this.#copies.replace(copy, fresh);
    await this.#later(fresh);
    this.#source?.confirmWanted();
  }

  #tell(copy: Copy, error: CascadeError): void {
    const { code, message, advice } = error;
    copy.set({ error: { code, message, advice } });
    this.#options.report.refused(copy, error);
  }

  /** Tried again: it cannot be done without. */
  async #later(copy: Copy): Promise<void> {
    this.#queue.later(copy, TRY_AGAIN_MS);
    setTimeout(() => this.#notify(), TRY_AGAIN_MS + 1).unref();
    await this.save([copy]);
  }

  async #end(copy: Copy, status: "done" | "failed"): Promise<void> {
    copy.set(status === "done" ? { status, error: null } : { status });
    // Before anything else comes from the stream: it would not be looked at any more.
    this.#copies.remove(copy);
    if (!this.#isOverwritten(copy)) await this.save([copy]);
    this.#source?.confirmWanted();
    this.#options.report.ended(copy);
    this.#notify();
  }

  /** Something was noted under the same key since the copy's last row: the table was rewritten, or has left. */
  #isOverwritten({ job }: Copy): boolean {
    return (
      job.request === INITIAL && (this.#copies.hasLeft(job.oid) || this.#copies.all.some((copy) => isSameWork(copy.job, job)))
    );
  }

  /** The table is gone, or captured no more. */
  async #gone(copy: Copy): Promise<void> {
    if (copy.job.request === INITIAL) {
      this.#leave(copy.job);
      this.#notify();
      return await this.#writer.saved();
    }
    copy.set({ error: TABLE_GONE });
    const { oid, name } = copy.job;
    // It has emptied the table where it was for, and the stream, which is behind, still brings changes of rows that never come there.
    if (copy.state.begun || copy.state.mayBeEmpty) this.#leave(initialJob({ oid, ...name }));
    await this.#end(copy, "failed");
  }

  /**
   * The table has lost its key, or got one, or its rows are others since it was met: its copy begins anew. Written down before anything that it
   * keeps back is confirmed.
   */
  #becomes(copy: Copy, key: readonly string[]): void {
    const { estimatedRows, begun, mayBeEmpty } = copy.state;
    const empties = copy.state.empties || key.length === 0;
    const state = { ...WAITING, estimatedRows, empties, begun, mayBeEmpty, contains: containedBy(copy) };
    this.#writer.note(this.#copies.anew(copy, state, { key }));
    // What was delivered until now may be in no list any more, where it went its ordinary way for a moment.
    this.#unsettled.add(copy.job);
    this.#notify();
  }

  /**
   * What was delivered before a copy was known, by this life or a former one, is in no list, and may not be visible yet: waits until what is
   * under way now is over. A longer transaction has not been delivered, and will be; but a commit that waits for a standby may have been.
   */
  async #settle(reader: TableReader, signal: AbortSignal): Promise<void> {
    const settled = [...this.#unsettled];
    await untilOver(reader, this.#options.report, signal);
    for (const job of settled) this.#unsettled.delete(job);
  }
}

const containedBy = (copy: Copy): Lsn | null => (copy.kind === "keyless" ? copy.contains : copy.state.contains);

const isSameWork = (a: CopyJob, b: CopyJob): boolean => a.request === b.request && a.oid === b.oid;

/** Of the table's first copy, and of each that takes its place. */
export const initialJob = ({ oid, schema, table }: TableName & { readonly oid: number }): CopyJob => ({
  request: INITIAL,
  oid,
  name: { schema, table },
  replica: null,
  range: WHOLE,
});
