import type { ChangeEvent, EventTable, EventTransaction } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import type { ChangeSource, SourceMessage } from "../src/change-source.ts";
import { SNAPSHOT_PREFIX } from "../src/postgres/wal2json.ts";
import { WAITING } from "../src/snapshot/copy-job.ts";
import { encodeMark } from "../src/snapshot/mark.ts";
import { decodeState } from "../src/snapshot/signals.ts";
import { Snapshotter } from "../src/snapshot/snapshotter.ts";
import type { SnapshotRow, TableReader } from "../src/snapshot/table-reader.ts";
import { SILENT } from "./silent-report.ts";

const OID = 7;
const DEADLINE_MS = 5_000;

export const schemaOf = (table: string, key: readonly string[] = [], type = "integer"): TableSchema =>
  identifySchema({
    ...{ schema: "public", table, oid: OID, key, identity: "full" },
    columns: [columnSchema("id", type, { attnum: 1, nullable: false })],
  });

const tableOf = ({ schema, table, id }: TableSchema): EventTable => ({
  schema,
  table,
  topic: `cascade.${schema}.${table}`,
  schemaId: id,
});

export type Message = (transaction: EventTransaction) => SourceMessage;

/** What a scan of the table is to do at its steps. */
export interface ScanSteps {
  /** Before the look at the table: where a mark is there already. */
  before?(): Promise<void> | void;
  /** After it. */
  found?(): Promise<void> | void;
  /** Between two portions of rows. */
  between?(): Promise<void> | void;
}

/**
 * One life's copying of one table, whose catalog and stream are said step by step: what is published, and written down, stands in `out` and
 * `written`.
 */
export class CopyingLab {
  /** What the catalog says; null: it is gone, or not captured. */
  catalog: TableSchema | null;
  readonly out: string[] = [];
  readonly written: string[] = [];
  /** `<prefix>.signals`: another life's too. */
  readonly log: Map<string, string>;
  /** In portions. */
  rows: SnapshotRow[][] = [[]];
  steps: ScanSteps = {};
  /** Marks are not in the stream before `releaseMarks`. */
  holdsMarks = false;
  /** What is handed over is not published before this. */
  publishing: Promise<void> = Promise.resolve();
  /** How many transactions a poll brings from the confirmed place on, again and again; null: a stream brings each once. */
  polled: number | null = null;
  lsn: Lsn;
  confirmed: Lsn = 0n;
  readonly snapshotter: Snapshotter;
  readonly #stop = new AbortController();
  #streamed: TableSchema;
  #marks = 0;
  #heldMarks: (() => void)[] = [];
  #queue: SourceMessage[][] = [];
  /** Of polls: all of them. */
  readonly #told: { readonly endLsn: Lsn; readonly messages: readonly SourceMessage[] }[] = [];
  #source: ChangeSource | null = null;
  #wake = Promise.withResolvers<void>();
  #running: Promise<unknown> | null = null;

  constructor(schema: TableSchema, before?: Pick<CopyingLab, "log" | "lsn">) {
    this.catalog = this.#streamed = schema;
    this.log = before?.log ?? new Map();
    this.lsn = before?.lsn ?? 0n;
    this.snapshotter = new Snapshotter({
      openReader: async () => this.#reader(),
      log: {
        messages: this.log,
        next: () => new Promise(() => undefined),
        write: async (messages) => {
          for (const { key, value } of messages) this.#write(key, value);
        },
        [Symbol.asyncDispose]: async () => undefined,
      },
      report: SILENT,
      initial: true,
    });
  }

  /** Whatever copies the table had are done. */
  known(): this {
    this.snapshotter.know(OID, { ...WAITING, status: "done" });
    return this;
  }

  run(): void {
    const source = this.snapshotter.merged({
      messages: (signal) => this.#messages(signal),
      confirm: (through) => {
        if (through <= this.confirmed) return;
        this.confirmed = through;
        this.#wake.resolve();
      },
      [Symbol.asyncDispose]: async () => undefined,
    });
    this.#source = source;
    const { signal } = this.#stop;
    const pumping = (async () => {
      for await (const messages of source.messages(signal)) {
        await this.publishing;
        for (const message of messages) {
          if (message.kind === "change") this.out.push(describe(message.event));
          else if (message.kind === "schema") this.out.push(`is ${message.schema.table}(${message.schema.key})`);
          else if (message.kind === "commit") source.confirm(message.endLsn);
        }
      }
    })();
    const schema = this.#streamed;
    this.say(() => ({ kind: "table", table: tableOf(schema), schema }));
    this.#running = Promise.all([pumping, this.snapshotter.run(signal)]);
    this.#running.catch(() => undefined); // `end` says it
  }

  async end(): Promise<void> {
    this.#stop.abort();
    this.#wake.resolve();
    await this.#running;
  }

  /** A transaction with these. */
  say(...messages: readonly Message[]): void {
    const transaction = this.transaction();
    const endLsn = transaction.commitLsn + 1n;
    this.deliver([...messages.map((message) => message(transaction)), { kind: "commit", endLsn, committedAtMs: 0 }]);
  }

  /** That snapshots see, and the stream does not bring yet. */
  transaction(): EventTransaction {
    this.lsn += 2n;
    return { txId: Number(this.lsn), commitLsn: this.lsn, committedAtMs: 0 };
  }

  /** At once. */
  deliver(messages: readonly SourceMessage[]): void {
    this.#queue.push([...messages]);
    this.#told.push({ endLsn: this.lsn + 1n, messages });
    this.#wake.resolve();
  }

  get isConfirmed(): boolean {
    return this.confirmed > this.lsn;
  }

  /** As another copy's end does. */
  confirmWanted(): void {
    this.#source?.confirm(0n);
  }

  change(op: "c" | "u" | "d", what: string): Message {
    const table = tableOf(this.#streamed);
    return (transaction) => ({
      kind: "change",
      event: { op, table, transaction, ordinal: 0, lsn: 0n, key: null, before: null, after: what },
    });
  }

  /** The catalog and the stream say so. */
  alter(schema: TableSchema, how: { readonly rewritten?: true } = {}): void {
    this.say(...this.altered(schema, how));
  }

  altered(schema: TableSchema, how: { readonly rewritten?: true } = {}): readonly Message[] {
    this.catalog = this.#streamed = schema;
    const { topic } = tableOf(schema);
    return [
      ({ commitLsn }) => ({ kind: "schema", topic, schema, at: { commitLsn, ordinal: 0 }, change: true, ...how }),
      () => ({ kind: "table", table: tableOf(schema), schema }),
    ];
  }

  get areMarksHeld(): boolean {
    return this.#heldMarks.length > 0;
  }

  releaseMarks(): void {
    this.holdsMarks = false;
    for (const put of this.#heldMarks.splice(0)) put();
  }

  /** The stream has been read to its end. */
  async caughtUp(): Promise<void> {
    await this.until(() => this.#queue.length === 0);
    await Bun.sleep(5);
  }

  get isDone(): boolean {
    return this.snapshotter.copies.all.length === 0;
  }

  async until(what: () => boolean): Promise<void> {
    for (const end = performance.now() + DEADLINE_MS; !what(); await Bun.sleep(1))
      if (performance.now() > end) throw new Error(`waited in vain; published: ${this.out.join(", ")}`);
  }

  #write(key: string, value: string | null): void {
    if (value === null) return void this.log.delete(key);
    this.log.set(key, value);
    const { status, begun, empties } = decodeState(value)?.state ?? WAITING;
    this.written.push([status, ...(begun ? ["begun"] : []), ...(empties ? ["empties"] : [])].join(" "));
  }

  async *#messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    let peeked = 0;
    while (!signal.aborted) {
      const from = this.#told.findIndex(({ endLsn }) => endLsn > this.confirmed);
      const to = this.polled === null || from < 0 ? peeked : Math.min(from + this.polled, this.#told.length);
      const next = this.polled === null ? this.#queue.shift() : undefined;
      if (next !== undefined) yield next;
      else if (to > peeked) {
        peeked = to;
        this.#queue = [];
        yield this.#told.slice(from, to).flatMap(({ messages }) => messages);
      } else {
        this.#wake = Promise.withResolvers();
        await this.#wake.promise;
      }
    }
  }

  #reader(): TableReader {
    const found = (schema: TableSchema) => ({ snapshot: { end: this.lsn + 1n, underWay: new Set<bigint>() }, schema });
    return {
      snapshot: async () => found(this.#streamed).snapshot,
      waitsForStandby: async () => false,
      chunk: async (_oid, plan, _range, wanted) => {
        await this.steps.before?.();
        if (this.catalog === null) return "gone";
        if (!wanted(found(this.catalog))) return null;
        await this.steps.found?.();
        const after = plan.kind === "range" ? (plan.after ?? "") : "";
        const rows = this.rows.flat().filter(([, row]) => row > after);
        return { rows: rows.map(([, row]) => [row, row] as const), last: true };
      },
      scan: async (_oid, wanted, take) => {
        const steps = this.#marks > 0 ? this.steps : {};
        await steps.before?.();
        if (this.catalog === null) return "gone";
        if (!wanted(found(this.catalog))) return null;
        await steps.found?.();
        for (const [portion, rows] of this.rows.entries()) {
          if (portion > 0) await steps.between?.();
          await take(rows);
        }
        return "done";
      },
      mark: async (mark) => {
        this.#marks++;
        const put = () =>
          this.say((transaction) => {
            const table = mark.table === this.#streamed.table ? tableOf(this.#streamed) : null;
            return { kind: "mark", prefix: SNAPSHOT_PREFIX, content: encodeMark(mark), transaction, ordinal: 0, lsn: 0n, table };
          });
        if (this.holdsMarks) this.#heldMarks.push(put);
        else put();
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }
}

/** `u b`, `r a for r1`, `u b not for r1`. */
function describe({ op, after, table }: ChangeEvent): string {
  const { replica, notReplica } = table;
  const forWhom =
    replica !== undefined ? [`for ${replica || "nobody"}`] : notReplica !== undefined ? [`not for ${notReplica}`] : [];
  return [op, ...(after === null || after === "" ? [] : [after]), ...forWhom].join(" ");
}
