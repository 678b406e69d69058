import { CascadeError, describeError } from "@cascade/shared/errors";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import { z } from "zod";
import type { Copy } from "./copies.ts";
import { type CopyJob, type CopyState, INITIAL, isWhole, LEFT, TABLE_GONE, WAITING, WHOLE } from "./copy-job.ts";
import type { SnapshotReport } from "./report.ts";
import type { SignalLog, SignalMessage } from "./signal-log.ts";
import { decodeRequest, decodeState, encodeState, isStateKey, type SnapshotRequest, stateKey } from "./signals.ts";
import { initialJob, type Snapshotter } from "./snapshotter.ts";
import type { CopyTable } from "./table-reader.ts";

/** A table's OID is never 0: the state of a request that names none. */
const NO_TABLE = 0;
/** States in one record batch: well under what a topic takes. */
const WRITTEN_AT_ONCE = 1_000;

export interface RequestsOptions {
  readonly log: SignalLog;
  readonly report: SnapshotReport;
  readonly snapshotter: Snapshotter;
  /** Every table that is captured now. */
  readonly tables: () => Promise<readonly CopyTable[]>;
  /** Which of these are tables now, captured or not. */
  readonly existing: (oids: readonly number[]) => Promise<ReadonlySet<number>>;
  readonly initial: boolean;
  /** Changes were lost: every table is emptied by the replicas and copied anew, however far former lives have got. */
  readonly anew: boolean;
  /** OIDs of tables whose topic was deleted: so is each of them alone, when it is to be copied at all. */
  readonly lost?: ReadonlySet<number>;
  /** Tables that Kafka has a schema of, not known to be gone: of those that died early no state was ever written. */
  readonly announced?: readonly (TableName & { readonly oid: number })[];
}

/** What was asked for, and what was begun: from `<prefix>.signals` to the snapshotter. */
export class Requests {
  readonly #options: RequestsOptions;
  /** Keys of requests that were accepted or refused: whoever does not know whether it was heard asks again. */
  readonly #answered = new Set<string>();

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  /** Goes on where former lives have got to; tells which tables they have seen leave. Before the stream is read: its changes depend on what is being copied. */
  async resume(): Promise<{ readonly left: readonly number[] }> {
    const { log, snapshotter, tables } = this.#options;
    const found = await tables();
    const isAnew = this.#anew(log);
    await this.#begin(found.filter(({ schema }) => isAnew(schema.oid)));
    const byOid = new Map(found.map((table) => [table.schema.oid, table]));
    const known = [...log.messages].flatMap(([key, value]) => (isStateKey(key) ? (decodeState(value) ?? []) : []));
    const absent: Known[] = [];
    for (const { job, state } of known) {
      this.#answered.add(job.request);
      const table = byOid.get(job.oid);
      if (job.oid === NO_TABLE) continue;
      if (table === undefined) absent.push({ job, state });
      else if (isAnew(job.oid) && job.request === INITIAL) continue;
      else if (job.request === INITIAL) this.#resumeInitial(job, state, table);
      else if (state.status === "done") snapshotter.contain(job.oid, state);
      else if (!isOver(state))
        snapshotter.add({ ...job, name: nameOf(table) }, isAnew(job.oid) ? waiting(table) : state, table.schema);
    }
    await this.#missing([...absent, ...this.#unseen(byOid)]);
    for (const table of found) snapshotter.meet(table.schema, table);
    for (const [key, value] of log.messages) if (!isStateKey(key)) await this.#accept(key, value);
    return { left: known.flatMap(({ job, state }) => (state.status === "left" ? [job.oid] : [])) };
  }

  /** Of a table that was never copied nothing is known to be lost. */
  #anew({ messages }: SignalLog): (oid: number) => boolean {
    const { anew, initial, lost = new Set() } = this.#options;
    if (anew) return () => true;
    const states = new Map([...lost].map((oid) => [oid, decodeState(messages.get(stateKey(INITIAL, oid)) ?? "")]));
    return (oid) => initial && !["left", undefined].includes(states.get(oid)?.state.status);
  }

  /** Written down before the new slot, or topic, is made: whatever happens then, these copies are to come. */
  async #begin(found: readonly CopyTable[]): Promise<void> {
    const { snapshotter } = this.#options;
    const copies = found.map((table) => {
      const job = initialJob(table.schema);
      return { job, state: { ...waiting(table), empties: true }, table };
    });
    await this.#writeAll(copies.map(stateOf));
    for (const { job, state, table } of copies) snapshotter.add(job, state, table.schema);
  }

  #resumeInitial(job: CopyJob, state: CopyState, table: CopyTable): void {
    const { snapshotter, initial } = this.#options;
    if (state.status === "left") snapshotter.left(job.oid);
    else if (state.status === "done") snapshotter.know(job.oid, state);
    else if (initial) snapshotter.add({ ...job, name: nameOf(table) }, state, table.schema);
  }

  /** Tables that were announced, whose copy was never begun, and that are not captured now. */
  #unseen(captured: ReadonlyMap<number, CopyTable>): readonly Known[] {
    const { log, announced = [], initial } = this.#options;
    if (!initial) return []; // no states are kept of them, nor are they emptied and copied when they are back
    const unseen = announced.filter(({ oid }) => !captured.has(oid) && !log.messages.has(stateKey(INITIAL, oid)));
    return unseen.map((table) => ({ job: initialJob(table), state: WAITING }));
  }

  /** Tables that are not captured now: what changes in them is in no topic. Of those that are gone nothing need be known. */
  async #missing(known: readonly Known[]): Promise<void> {
    if (known.length === 0) return;
    const { snapshotter, existing } = this.#options;
    const there = await existing(known.map(({ job }) => job.oid));
    const news: SignalMessage[] = [];
    for (const { job, state } of known) {
      const key = stateKey(job.request, job.oid);
      if (job.request !== INITIAL) {
        if (!isOver(state)) news.push({ key, value: encodeState(job, { ...state, status: "failed", error: TABLE_GONE }) });
        continue;
      }
      snapshotter.left(job.oid);
      if (!there.has(job.oid)) news.push({ key, value: null });
      else if (state.status !== "left") news.push({ key, value: encodeState(job, LEFT) });
    }
    await this.#writeAll(news);
  }

  async #writeAll(messages: readonly SignalMessage[]): Promise<void> {
    for (let at = 0; at < messages.length; at += WRITTEN_AT_ONCE)
      await this.#options.log.write(messages.slice(at, at + WRITTEN_AT_ONCE));
  }

  /** Takes what comes until `signal` aborts. Rejects with a CascadeError when Kafka is away. */
  async listen(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    while (!signal.aborted) {
      for (const { key, value } of await log.next(signal)) {
        if (value !== null && !isStateKey(key)) await this.#accept(key, value);
      }
    }
  }

  /** Tables that have come under CDC_TABLES without a row, by a name or a schema of another. */
  async look(): Promise<void> {
    const { snapshotter, tables, initial } = this.#options;
    if (initial) for (const table of await tables()) snapshotter.meet(table.schema, table);
  }

  async #accept(key: string, value: string): Promise<void> {
    if (this.#answered.has(key)) return;
    this.#answered.add(key);
    const { log, snapshotter, report, tables, initial } = this.#options;
    let jobs: readonly { readonly job: CopyJob; readonly state: CopyState; readonly table: CopyTable }[];
    try {
      const request = decodeRequest(key, value);
      const asked = (await tables()).filter(({ schema }) =>
        request.oid === null ? request.tables.matches(schema) : request.oid === schema.oid,
      );
      if (asked.length === 0) throw new SyntaxError(`no table that is captured matches ${request.tables.text}`);
      for (const table of asked) {
        checkRange(request, table);
        // One that was captured a moment ago: its first copy goes before this one.
        if (initial) snapshotter.meet(table.schema, table);
      }
      jobs = asked.map((table) => ({ job: jobOf(key, request, table), state: waiting(table), table }));
    } catch (error) {
      if (error instanceof CascadeError) throw error; // main-db is away: not the request's fault
      return this.#refuse(key, error);
    }
    // All or none: a request that was begun is not looked at again.
    await log.write(jobs.map(stateOf));
    const copies: Copy[] = jobs.map(({ job, state, table }) => snapshotter.add(job, state, table.schema));
    report.accepted(key, copies);
  }

  async #refuse(key: string, error: unknown): Promise<void> {
    const reason = error instanceof z.ZodError ? z.prettifyError(error).replaceAll("\n", " ") : describeError(error);
    this.#options.report.warn(`the snapshot request ${JSON.stringify(key.slice(0, 100))} is refused: ${reason}`);
    const job = { request: key, oid: NO_TABLE, name: { schema: "", table: "" }, replica: null, range: WHOLE };
    const advice = 'write another one, with another key: {"type":"snapshot","tables":["schema.table"]}; see the README';
    const state: CopyState = { ...WAITING, status: "failed", error: { code: "MALFORMED_REQUEST", message: reason, advice } };
    await this.#options.log.write([{ key: stateKey(key, NO_TABLE), value: encodeState(job, state) }]);
  }
}

const stateOf = ({ job, state }: Known): SignalMessage => ({
  key: stateKey(job.request, job.oid),
  value: encodeState(job, state),
});

type Known = NonNullable<ReturnType<typeof decodeState>>;

const isOver = ({ status }: CopyState): boolean => status === "done" || status === "failed";

const waiting = ({ estimatedRows }: CopyTable): CopyState => ({ ...WAITING, estimatedRows });

const nameOf = ({ schema: { schema, table } }: CopyTable): TableName => ({ schema, table });

const jobOf = (request: string, { replica, range }: SnapshotRequest, table: CopyTable): CopyJob => ({
  request,
  oid: table.schema.oid,
  name: nameOf(table),
  replica,
  range,
});

/** Throws an Error that says what is wrong. */
function checkRange({ range }: SnapshotRequest, { schema }: CopyTable): void {
  const table = formatTableName(schema);
  const { from, to } = range;
  if (schema.key.length === 0 && !isWhole(range))
    throw new SyntaxError(`${table} has no key: it is copied whole, without from, to and where`);
  for (const bound of [from, to]) {
    if (bound === null) continue;
    const names = Object.keys(bound);
    const leading = schema.key.slice(0, names.length);
    if (names.length === 0 || names.length > schema.key.length || !leading.every((name) => names.includes(name)))
      throw new SyntaxError(
        `from and to name the columns of the key of ${table}, or the first of them: ${schema.key.join(", ")}`,
      );
  }
}
