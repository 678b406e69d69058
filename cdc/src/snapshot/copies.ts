import type { ChangeEvent, EventTable } from "@cascade/shared/change-event";
import { type Lsn, laterLsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { SourceMark, SourceMessage } from "../change-source.ts";
import { type Snapshot, sees } from "../postgres/snapshot.ts";
import { SNAPSHOT_PREFIX } from "../postgres/wal2json.ts";
import { type CopyJob, type CopyState, INITIAL, stateFor } from "./copy-job.ts";
import { KeyedCopy } from "./keyed-copy.ts";
import { KeylessCopy, type TableNews } from "./keyless-copy.ts";
import { decodeMark } from "./mark.ts";

export type Copy = KeyedCopy | KeylessCopy;

/** What is done with the changes of one table. */
interface Treatment {
  readonly schema: TableSchema;
  readonly copies: readonly Copy[];
  /** Those of transactions up to there are for nobody. */
  readonly contained: Lsn;
  /** What its events carry instead. */
  readonly table: EventTable;
  readonly filling: Filling;
}

/** For whom rows of the table may be missing until a copy is there. */
type Filling = Pick<EventTable, "filling" | "fillingFor">;

/** Nothing stands there. */
const NOWHERE: Lsn = -1n;

/** All copies that are not done, and how the stream goes through them. Pure. */
export class Copies {
  #copies: readonly Copy[] = [];
  readonly #schemas = new Map<string, TableSchema>();
  /** OIDs of tables that were captured once, and are not. */
  readonly #left = new Set<number>();
  /** By OID, up to where changes are in no topic, for the table's copy has them: where the slot may tell them again. */
  readonly #contained = new Map<number, Lsn>();
  /** By the events' own table object, which a change of the catalog makes anew: one look per table, not per row. */
  #treatments = new WeakMap<EventTable, Treatment | null>();
  /** Transactions with changes of tables to be copied that no snapshot has seen yet. */
  readonly #recent = new Set<number>();
  #recentTxId = -1;
  readonly #onTable: (news: TableNews) => void;
  readonly #fillsReturned: boolean;

  /** @param options.fillsReturned a table that comes back after it had left is emptied and copied anew: until then its rows may be missing */
  constructor(onTable: (news: TableNews) => void, { fillsReturned = true } = {}) {
    this.#onTable = onTable;
    this.#fillsReturned = fillsReturned;
  }

  get all(): readonly Copy[] {
    return this.#copies;
  }

  /** Its changes from before may still be delivered, and its copy may not have been done. */
  left(oid: number): void {
    this.#left.add(oid);
    this.#treatAnew();
  }

  /** Whether it had left. */
  returned(oid: number): boolean {
    this.#treatAnew();
    return this.#left.delete(oid);
  }

  hasLeft(oid: number): boolean {
    return this.#left.has(oid);
  }

  add(job: CopyJob, state: CopyState, schema: Pick<TableSchema, "key">): Copy {
    const copy = this.#new(job, state, schema);
    this.#copies = [...this.#copies, copy];
    this.#treatAnew();
    return copy;
  }

  /** The same work, begun anew. */
  anew({ job }: Copy, state: CopyState, schema: Pick<TableSchema, "key">): Copy {
    const copy = this.#new(job, state, schema);
    this.#copies = this.#copies.map((other) => (other.job === job ? copy : other));
    this.#treatAnew();
    return copy;
  }

  #new(job: CopyJob, state: CopyState, { key }: Pick<TableSchema, "key">): Copy {
    if (state.contains !== null) this.contain(job.oid, state.contains);
    return key.length === 0 ? new KeylessCopy(job, stateFor("keyless", state)) : new KeyedCopy(job, stateFor("keyed", state));
  }

  /** Changes of the table up to there are for nobody. */
  contain(oid: number, through: Lsn): void {
    this.#contained.set(oid, laterLsn(through, this.#contained.get(oid) ?? NOWHERE));
    this.#treatAnew();
  }

  replace(copy: Copy, by: Copy): void {
    this.#copies = this.#copies.map((other) => (other === copy ? by : other));
    this.#treatAnew();
  }

  has(copy: Copy): boolean {
    return this.#copies.includes(copy);
  }

  remove(copy: Copy): void {
    this.#copies = this.#copies.filter((other) => other !== copy);
    this.#treatAnew();
    if (this.#copies.length === 0) this.#recent.clear();
  }

  /** What the next snapshot must see: nothing is kept of these any more. */
  mustSee(): readonly number[] {
    return [...this.#recent];
  }

  saw(snapshot: Snapshot): void {
    for (const txId of this.#recent) if (sees(snapshot, txId)) this.#recent.delete(txId);
    this.#recentTxId = -1;
  }

  /** A delivery of the stream, with the rows of chunks at their marks. `toSave` is told of copies that must not be forgotten. */
  merge(messages: readonly SourceMessage[], toSave: (copy: Copy) => void): readonly SourceMessage[] {
    let merged: SourceMessage[] | null = this.#isIdle ? null : [];
    for (const [at, message] of messages.entries()) {
      switch (message.kind) {
        case "change":
          if (merged !== null) this.#change(message, merged, toSave);
          continue;
        case "mark":
          if (merged !== null && message.prefix === SNAPSHOT_PREFIX) {
            this.#mark(message, merged);
            continue;
          }
          break;
        case "table":
          this.#schemas.set(message.schema.id, message.schema);
          break;
        case "schema":
        case "left":
        case "dropped":
          if (message.kind === "schema") this.#schemas.set(message.schema.id, message.schema);
          if (merged !== null) this.#alter(message, merged, toSave);
          this.#onTable(message);
          // From here on there may be something to be merged.
          if (merged === null && !this.#isIdle) merged = messages.slice(0, at);
          break;
        case "commit":
          this.#pass(message.endLsn);
      }
      merged?.push(message);
    }
    return merged ?? messages;
  }

  /** Nothing of the stream is to be otherwise than it comes. */
  get #isIdle(): boolean {
    return this.#copies.length === 0 && this.#contained.size === 0 && !(this.#fillsReturned && this.#left.size > 0);
  }

  /**
   * Rows from before a table looks otherwise are published before that is told: whoever hears of it takes it that they are there. Those that
   * are for nobody are so for good, from then on: another life, whose copy may be of another kind, would publish them after all.
   */
  #alter(news: TableNews, merged: SourceMessage[], toSave: (copy: Copy) => void): void {
    const oid = news.kind === "schema" ? news.schema.oid : news.oid;
    for (const copy of this.#copies) {
      if (copy.kind !== "keyless" || copy.job.oid !== oid) continue;
      for (const event of copy.altered(news)) merged.push({ kind: "change", event });
      if (copy.tellKeptBack()) toSave(copy);
    }
  }

  #pass(endLsn: Lsn): void {
    for (const [oid, through] of this.#contained) {
      if (through >= endLsn) continue;
      this.#contained.delete(oid);
      this.#treatAnew();
    }
  }

  #change(message: SourceMessage & { readonly kind: "change" }, merged: SourceMessage[], toSave: (copy: Copy) => void): void {
    let { event } = message;
    const treatment = this.#treatmentOf(event.table);
    if (treatment === null) return void merged.push(message);
    if (event.transaction.commitLsn <= treatment.contained) return;
    if (treatment.copies.length > 0) this.#noteTransaction(event.transaction.txId);
    for (const copy of treatment.copies) {
      if (copy.kind === "keyless") {
        const passed = copy.change(event);
        if (passed === null) return;
        event = passed;
      } else if (copy.change(event, treatment.schema)) toSave(copy);
    }
    if (event !== message.event) {
      merged.push({ kind: "change", event: { ...event, table: { ...event.table, ...treatment.filling } } });
    } else
      merged.push(treatment.table === event.table ? message : { kind: "change", event: { ...event, table: treatment.table } });
  }

  #noteTransaction(txId: number): void {
    if (txId === this.#recentTxId) return;
    this.#recentTxId = txId;
    this.#recent.add(txId);
  }

  #treatAnew(): void {
    this.#treatments = new WeakMap();
  }

  #treatmentOf(table: EventTable): Treatment | null {
    let treatment = this.#treatments.get(table);
    if (treatment === undefined) {
      treatment = this.#newTreatment(table);
      this.#treatments.set(table, treatment);
    }
    return treatment;
  }

  #newTreatment(table: EventTable): Treatment | null {
    const schema = this.#schemas.get(table.schemaId);
    const copies = this.#copies.filter(({ job }) => job.oid === schema?.oid);
    const returns = schema !== undefined && this.#fillsReturned && this.#left.has(schema.oid);
    const contained = this.#contained.get(schema?.oid ?? 0) ?? NOWHERE;
    if (schema === undefined || (copies.length === 0 && contained === NOWHERE && !returns)) return null;
    // Rows of the table may be missing on the replicas until the copy is there.
    const filling = returns ? FOR_ALL : fillingOf(copies);
    return { schema, copies, contained, filling, table: filling.filling ? { ...table, ...filling } : table };
  }

  #mark(mark: SourceMark, merged: SourceMessage[]): void {
    const id = decodeMark(mark.content)?.id;
    if (id === undefined) return;
    for (const copy of this.#copies) {
      const events = copy.kind === "keyed" ? this.#arriveKeyed(copy, id, mark) : this.#arriveKeyless(copy, id, mark);
      for (const event of events) merged.push({ kind: "change", event });
    }
  }

  #arriveKeyed(copy: KeyedCopy, id: string, mark: SourceMark): readonly ChangeEvent[] {
    const schema = this.#schemas.get(mark.table?.schemaId ?? "") ?? null;
    if (id === copy.beginId) {
      const first = copy.arriveBegin(mark, schema);
      this.#treatAnew();
      return first === null ? [] : [first];
    }
    const chunk = copy.chunkMarked(id);
    return chunk === null ? [] : (copy.arrive(chunk, mark, schema) ?? []);
  }

  #arriveKeyless(copy: KeylessCopy, id: string, mark: SourceMark): readonly ChangeEvent[] {
    if (id === copy.endId) copy.pass();
    if (id === copy.markId) copy.arrive(mark, this.#schemas.get(mark.table?.schemaId ?? "") ?? null);
    return [];
  }
}

const FOR_ALL: Filling = { filling: true };

/** A replica that is not copied has its rows, and would never hear again of one that it lacks. */
function fillingOf(copies: readonly Copy[]): Filling {
  const filling = copies.filter((copy) => copy.kind === "keyed" && (copy.job.request === INITIAL || copy.mayBeEmpty));
  if (filling.length === 0) return {};
  const replicas = new Set(filling.map(({ job }) => job.replica));
  return replicas.has(null) ? FOR_ALL : { filling: true, fillingFor: [...replicas].join(",") };
}
