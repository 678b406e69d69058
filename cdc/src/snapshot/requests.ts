import { randomUUID } from "node:crypto";
import { CascadeError, describeError } from "@cascade/shared/errors";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import { z } from "zod";
import type { Copy } from "./copies.ts";
import { type CopyJob, type CopyState, INITIAL, isWhole, LEFT, TABLE_GONE, WAITING, WHOLE } from "./copy-job.ts";
import type { SnapshotReport } from "./report.ts";
import type { SignalLog, SignalMessage } from "./signal-log.ts";
import {
  CLAIM_KEY,
  claimantOf,
  decodeRequest,
  decodeState,
  encodeClaim,
  encodeState,
  isStateKey,
  lifeOf,
  type SnapshotRequest,
  stateKey,
} from "./signals.ts";
import type { Snapshotter } from "./snapshotter.ts";
import { stateMessage } from "./state-writer.ts";
import type { CopyTable } from "./table-reader.ts";

/** A table's OID is never 0: the state of a request that names none. */
const NO_TABLE = 0;

export interface RequestsOptions {
  readonly log: SignalLog;
  readonly report: SnapshotReport;
  readonly snapshotter: Snapshotter;
  /** Every table that is captured now. */
  readonly tables: () => Promise<readonly CopyTable[]>;
  /** Which of these are tables now, captured or not. */
  readonly existing: (oids: readonly number[]) => Promise<ReadonlySet<number>>;
  readonly initial: boolean;
}

/** What was asked for, and what was begun: from `<prefix>.signals` to the snapshotter. */
export class Requests {
  readonly #options: RequestsOptions;
  /** Keys of requests that were accepted or refused: whoever does not know whether it was heard asks again. */
  readonly #answered = new Set<string>();
  /** Higher than that of every cdc that has written before. */
  #life = 0;
  readonly #me = randomUUID();
  /** What this cdc has written before its claim. */
  readonly #own = new Set<string>();

  constructor(options: RequestsOptions) {
    this.#options = options;
  }

  /** Goes on where former lives have got to; tells which tables they have seen leave. Before the stream is read: its changes depend on what is being copied. */
  async resume(): Promise<{ readonly left: readonly number[] }> {
    const { log, snapshotter, tables } = this.#options;
    const found = await tables();
    this.#life = 1 + Math.max(0, ...[...log.messages].map(([key, value]) => (isStateKey(key) ? lifeOf(value) : 0)));
    snapshotter.begin(this.#life);
    const byOid = new Map(found.map((table) => [table.schema.oid, table]));
    const known = [...log.messages].flatMap(([key, value]) => (isStateKey(key) ? (decodeState(value) ?? []) : []));
    const absent: Known[] = [];
    for (const { job, state } of known) {
      this.#answered.add(job.request);
      const table = byOid.get(job.oid);
      if (job.oid === NO_TABLE) continue;
      if (table === undefined) absent.push({ job, state });
      else if (job.request === INITIAL) this.#resumeInitial(job, state, table);
      else if (!isOver(state)) snapshotter.add({ ...job, name: nameOf(table) }, state, table.schema);
    }
    await this.#missing(absent);
    for (const table of found) snapshotter.meet(table.schema, table);
    for (const [key, value] of log.messages) if (!isStateKey(key)) await this.#accept(key, value);
    return { left: known.flatMap(({ job, state }) => (state.status === "left" ? [job.oid] : [])) };
  }

  #resumeInitial(job: CopyJob, state: CopyState, table: CopyTable): void {
    const { snapshotter, initial } = this.#options;
    if (state.status === "left") snapshotter.left(job.oid);
    else if (state.status === "done") snapshotter.know(job.oid);
    else if (initial) snapshotter.add({ ...job, name: nameOf(table) }, state, table.schema);
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
        if (!isOver(state))
          news.push({ key, value: encodeState(job, { ...state, status: "failed", error: TABLE_GONE }, this.#life) });
      } else if (!there.has(job.oid)) news.push({ key, value: null });
      else {
        snapshotter.left(job.oid);
        if (state.status !== "left") news.push({ key, value: encodeState(job, LEFT, this.#life) });
      }
    }
    if (news.length > 0) await this.#write(news);
  }

  /**
   * To be called once the slot is this cdc's, before anything is read from it. What copies are to be done is written down anew: a former
   * cdc may still say of one of them, late, that it is done. Rejects with a CascadeError that heals when another has held the slot since
   * `resume`: then what was read is not how things are.
   */
  async claim(signal: AbortSignal): Promise<void> {
    const { log, snapshotter } = this.#options;
    const copies = snapshotter.copies.all.map((copy) => stateMessage(copy, this.#life));
    await log.write([{ key: CLAIM_KEY, value: encodeClaim(this.#life, this.#me) }, ...copies]);
    while (!signal.aborted) {
      const news = await log.next(signal);
      const mine = news.findIndex(({ key, value }) => key === CLAIM_KEY && value !== null && claimantOf(value) === this.#me);
      for (const { key, value } of mine === -1 ? news : news.slice(0, mine))
        if (value !== null && isStateKey(key) && lifeOf(value) >= this.#life && !this.#own.has(value)) throw overtaken();
      for (const message of news) await this.#take(message);
      if (mine !== -1) return;
    }
  }

  /** Takes what comes until `signal` aborts. Rejects with a CascadeError when Kafka is away. */
  async listen(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    while (!signal.aborted) for (const message of await log.next(signal)) await this.#take(message);
  }

  async #take({ key, value }: SignalMessage): Promise<void> {
    if (value === null) return;
    if (!isStateKey(key)) return this.#accept(key, value);
    if (lifeOf(value) >= this.#life) return;
    // Said late. Of what is not done yet this cdc's word is to be the newest, and what compaction keeps.
    const { snapshotter } = this.#options;
    const copy = snapshotter.copies.all.find(({ job }) => stateKey(job.request, job.oid) === key);
    if (copy !== undefined) await snapshotter.save([copy]);
  }

  /** Tables that have come under CDC_TABLES without a row, by a name or a schema of another. */
  async look(): Promise<void> {
    const { snapshotter, tables, initial } = this.#options;
    if (initial) for (const table of await tables()) snapshotter.meet(table.schema, table);
  }

  async #accept(key: string, value: string): Promise<void> {
    if (this.#answered.has(key)) return;
    this.#answered.add(key);
    const { snapshotter, report, tables } = this.#options;
    let jobs: readonly { readonly job: CopyJob; readonly state: CopyState; readonly table: CopyTable }[];
    try {
      const request = decodeRequest(key, value);
      const asked = (await tables()).filter(({ schema }) =>
        request.oid === null ? request.tables.matches(schema) : request.oid === schema.oid,
      );
      if (asked.length === 0) throw new SyntaxError(`no table that is captured matches ${request.tables.text}`);
      for (const table of asked) checkRange(request, table);
      jobs = asked.map((table) => ({ job: jobOf(key, request, table), state: waiting(table), table }));
    } catch (error) {
      if (error instanceof CascadeError) throw error; // main-db is away: not the request's fault
      return this.#refuse(key, error);
    }
    // All or none: a request that was begun is not looked at again.
    await this.#write(
      jobs.map(({ job, state }) => ({ key: stateKey(key, job.oid), value: encodeState(job, state, this.#life) })),
    );
    const copies: Copy[] = jobs.map(({ job, state, table }) => snapshotter.add(job, state, table.schema));
    report.accepted(key, copies);
  }

  async #refuse(key: string, error: unknown): Promise<void> {
    const reason = error instanceof z.ZodError ? z.prettifyError(error).replaceAll("\n", " ") : describeError(error);
    this.#options.report.warn(`the snapshot request ${JSON.stringify(key.slice(0, 100))} is refused: ${reason}`);
    const job = { request: key, oid: NO_TABLE, name: { schema: "", table: "" }, replica: null, range: WHOLE };
    const advice = 'write another one, with another key: {"type":"snapshot","tables":["schema.table"]}; see the README';
    const state: CopyState = { ...WAITING, status: "failed", error: { code: "MALFORMED_REQUEST", message: reason, advice } };
    await this.#write([{ key: stateKey(key, NO_TABLE), value: encodeState(job, state, this.#life) }]);
  }

  #write(messages: readonly SignalMessage[]): Promise<void> {
    for (const { value } of messages) if (value !== null) this.#own.add(value);
    return this.#options.log.write(messages);
  }
}

const overtaken = (): CascadeError =>
  new CascadeError({
    code: "SNAPSHOTS_OVERTAKEN",
    verdict: "retry",
    message: "another cdc has held the slot, or taken a request, since it was read how far copies of tables are",
    advice: "nothing to do: it is read again",
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
