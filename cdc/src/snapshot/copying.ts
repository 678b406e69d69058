import type { FewAtOnce } from "@cascade/shared/few-at-once";
import { pause } from "@cascade/shared/retry";
import type { Signal } from "@cascade/shared/signal";
import type { TableName } from "@cascade/shared/topic";
import type { Copies, Copy } from "./copies.ts";
import type { CopyJob } from "./copy-job.ts";
import type { KeyedCopy } from "./keyed-copy.ts";
import type { KeylessCopy } from "./keyless-copy.ts";
import type { MergedSource } from "./merged-source.ts";
import type { OpenChunk } from "./open-chunk.ts";
import type { SnapshotReport } from "./report.ts";
import type { SnapshotRow, TableFound, TableReader } from "./table-reader.ts";

/** Between two tries of what main-db does not show yet. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 250;

/** What the copying of a table goes by. */
export interface CopyingContext {
  readonly reader: TableReader;
  /** It reads one thing at a time. */
  readonly turns: FewAtOnce;
  readonly copies: Copies;
  readonly source: MergedSource;
  readonly changed: Signal;
  readonly report: SnapshotReport;
  readonly signal: AbortSignal;
  /** Resolves when the copy's state is durable. */
  save(copy: Copy): Promise<void>;
}

/** `over`: asked to stop, or begun anew by another; `anew`: it is a table of another kind, or look, now. */
export type CopyOutcome =
  | { readonly kind: "done"; readonly copy: Copy }
  | { readonly kind: "gone" }
  | { readonly kind: "over" }
  | { readonly kind: "anew"; readonly key: readonly string[] };

/** By chunks. What is done is taken out of the copies at once: the stream must not add to it any more. */
export async function copyKeyed(context: CopyingContext, copy: KeyedCopy): Promise<CopyOutcome> {
  const { reader, copies, changed, signal, save } = context;
  while (!signal.aborted && copies.has(copy)) {
    if (copy.needsBegin) {
      const name = await nameNow(context, copy.job);
      if (name === null) return { kind: "gone" };
      // Before the truncate can be published: another life must know that rows may be missing.
      copy.set({ mayBeEmpty: true });
      await save(copy);
      copy.beginMarked();
      await reader.mark({ id: copy.beginId, ...name });
      continue;
    }
    const plan = copy.next();
    if (plan === "done") {
      copies.remove(copy);
      return { kind: "done", copy };
    }
    const outcome = plan === null ? await changed.wait() : await readAndMark(context, copy);
    if (outcome) return outcome;
  }
  return { kind: "over" };
}

/** `hidden`: the snapshot does not see yet what it must, or the table is another than it was. */
type ChunkOutcome = OpenChunk | "gone" | "hidden" | "keyless" | null;

async function readAndMark(context: CopyingContext, copy: KeyedCopy): Promise<CopyOutcome | null> {
  const { reader, source, turns, signal } = context;
  const read = await turns.run(() => readNext(context, copy));
  if (read === null) return null;
  if (read === "gone") return { kind: "gone" };
  source.notify();
  if (read === "hidden" || read === "keyless") {
    await pause(FIRST_PAUSE_MS, signal);
    return read === "keyless" ? { kind: "anew", key: [] } : null;
  }
  const schema = copy.chunkMarked(read.id)?.schema ?? null;
  if (schema !== null) await reader.mark({ id: read.id, schema: schema.schema, table: schema.table });
  return null;
}

/** What is to be read when its turn comes; null when that is nothing any more. */
async function readNext({ reader, copies, signal }: CopyingContext, copy: KeyedCopy): Promise<ChunkOutcome> {
  const plan = signal.aborted || !copies.has(copy) ? null : copy.next();
  if (plan === null || plan === "done") return null;
  const chunk = copy.begin(plan, copies.mustSee());
  let keyless = false;
  const found = (table: TableFound): boolean => {
    keyless = table.schema.key.length === 0;
    if (keyless || !copy.found(chunk, table)) return false;
    copies.saw(table.snapshot);
    return true;
  };
  const read = await reader.chunk(copy.job.oid, plan, copy.job.range, found);
  if (read === "gone") return "gone";
  if (read !== null) {
    copy.read(chunk, read);
    return chunk;
  }
  copy.giveUp(chunk);
  return keyless ? "keyless" : "hidden";
}

/** Whole, as one snapshot sees it. */
export async function copyKeyless(context: CopyingContext, waiting: KeylessCopy): Promise<CopyOutcome> {
  const { copies, source, signal } = context;
  // A fresh one: it may have been tried before.
  const copy = waiting.afresh();
  copies.replace(waiting, copy);
  const isOver = () => signal.aborted || !copies.has(copy);
  if (!(await marked(context, copy, isOver))) return { kind: "gone" };
  for (let pauseMs = FIRST_PAUSE_MS; !isOver(); pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const outcome = await scanOnce(context, copy, isOver);
    // What is held of a copy that was asked for is nowhere else.
    if (outcome?.kind === "anew" || outcome?.kind === "gone") await source.offer(() => copy.giveUp());
    if (outcome !== null) return outcome;
    await pause(pauseMs, signal);
  }
  return { kind: "over" };
}

/** Resolves when the copy's mark is in the stream, where it names the copy's table; to false when there is no such table any more. */
async function marked(context: CopyingContext, copy: KeylessCopy, isOver: () => boolean): Promise<boolean> {
  const { reader, changed, signal } = context;
  while (!copy.isMarked && !isOver()) {
    const name = await nameNow(context, copy.job);
    if (name === null) return false;
    copy.markAgain();
    await reader.mark({ id: copy.markId, ...name });
    while (!copy.isMarked && !copy.isLost && !isOver()) await changed.wait();
    if (copy.isLost) await pause(LONGEST_PAUSE_MS, signal);
  }
  return true;
}

/** What the table is called: it may have been renamed since it was met, and another may have its name. Null when it is gone. */
async function nameNow({ reader, turns }: CopyingContext, { oid }: CopyJob): Promise<TableName | null> {
  let name: TableName | null = null;
  const found = ({ schema: { schema, table } }: TableFound): boolean => {
    name = { schema, table };
    return false;
  };
  return (await turns.run(() => reader.scan(oid, found, async () => undefined))) === "gone" ? null : name;
}

/** null when the snapshot does not see yet what it must. */
async function scanOnce(context: CopyingContext, copy: KeylessCopy, isOver: () => boolean): Promise<CopyOutcome | null> {
  const { reader, turns, copies, source, report, changed, save } = context;
  const mustSee = copies.mustSee();
  let first = true;
  let key: readonly string[] = [];
  let name: TableName = copy.job.name;
  const found = (table: TableFound): boolean => {
    key = table.schema.key;
    name = { schema: table.schema.schema, table: table.schema.table };
    return key.length === 0 && copy.found(table, mustSee);
  };
  const isEnded = () => isOver() || copy.wasAltered;
  /** Before the truncate is published: another life must know that the table may be empty. */
  const begin = async (): Promise<void> => {
    if (copy.state.begun || isEnded()) return;
    copy.set({ begun: true });
    await save(copy);
  };
  const take = async (rows: readonly SnapshotRow[]): Promise<void> => {
    if (first) await begin();
    const events = isEnded() ? [] : copy.rows(rows, first);
    first = false;
    await source.offer(() => (isEnded() ? [] : events));
    report.progress(copy);
  };
  const done = await turns.run(() => reader.scan(copy.job.oid, found, take));
  if (isOver()) return { kind: "over" };
  if (done === "gone") return { kind: "gone" };
  if (done === "done" && first) await begin(); // of a table without rows too
  if (done === "done" && !copy.wasAltered) {
    await source.offer(() => (isEnded() ? [] : [...(first ? copy.rows([], true) : []), ...copy.out()]));
    if (copy.wasAltered) return { kind: "anew", key };
    copy.durable();
    source.confirmWanted();
    // The stream may be behind what the snapshot has seen: it is not over before that is passed.
    await reader.mark({ id: copy.endId, ...name });
    while (!copy.isPassed && !isOver()) await changed.wait();
    if (isOver()) return { kind: "over" };
    copies.remove(copy);
    return { kind: "done", copy };
  }
  return key.length > 0 || copy.wasAltered ? { kind: "anew", key } : null;
}
