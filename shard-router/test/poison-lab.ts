import type { ChangeEvent, Op } from "@cascade/shared/change-event";
import { CascadeError, FencedError } from "@cascade/shared/errors";
import { eventEncoder } from "@cascade/shared/event-writer";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import type { DeadLetter } from "../src/dead-letter.ts";
import { DeadLetters, type ErrorPolicy } from "../src/dead-letters.ts";
import type { EventBatch, EventConsumer, RawEvent } from "../src/event-consumer.ts";
import { HeldBook } from "../src/held-book.ts";
import { pump } from "../src/pipeline.ts";
import { ProgressBook } from "../src/progress-book.ts";
import { type ReplayReport, replay, type Selected } from "../src/replay.ts";
import type { Replica } from "../src/replica.ts";
import { SchemaHistory } from "../src/schema-history.ts";
import { turn } from "../src/turn.ts";
import { tableBook } from "./memory-replica.ts";

/** A router's own line into a real replica: Kafka alone is a list, of events and of dead letters. */

export const partition = { topic: "cascade.public.t", partition: 0 };
const name = { schema: "public", table: "t" };

export const column = (attnum: number, columnName: string, type: string, typeOid: number) => ({
  ...{ name: columnName, attnum, type, typeOid, typmod: -1 },
  ...{ nullable: attnum > 1, default: null, generated: false },
});

export const keyed = identifySchema({
  ...name,
  ...{ oid: 77, key: ["id"], identity: "default" as const },
  columns: [column(1, "id", "integer", 23), column(2, "v", "integer", 23), column(3, "w", "integer", 23)],
});
/** The same table, otherwise. */
export function otherwise(more: Partial<TableSchema>): TableSchema {
  const { id: _, ...schema } = { ...keyed, ...more };
  return identifySchema(schema);
}

export const keyless = otherwise({ key: [], identity: "full" });

export interface Change {
  readonly op: Op;
  readonly before?: object | null;
  readonly after?: object | null;
  readonly schema?: TableSchema;
  readonly replica?: string;
}

const encode = eventEncoder("cascade", "app");

export function rawEvents(changes: readonly Change[], firstOffset = 0): readonly RawEvent[] {
  return changes.map(({ op, before = null, after = null, schema = keyed, replica }, index) => {
    const at = firstOffset + index;
    const event: ChangeEvent = {
      op,
      table: { ...name, topic: partition.topic, schemaId: schema.id, ...(replica === undefined ? {} : { replica }) },
      transaction: { txId: 1, commitLsn: BigInt(at + 1), committedAtMs: 1_000 },
      ordinal: 0,
      lsn: 0n,
      key: null,
      before: before && JSON.stringify(before),
      after: after && JSON.stringify(after),
    };
    return { offset: BigInt(at), key: null, value: encode(event, 0), traceParent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01` };
  });
}

export interface LineOptions {
  readonly policy?: ErrorPolicy;
  readonly maxKeys?: number;
  readonly batchSize?: number;
  /** Called before each of these: what it throws is what happens, before or (`after`) after it was done. */
  readonly fault?: (what: "publish" | "apply", when: "before" | "after") => void | Promise<void>;
}

export class Crash extends Error {}

/** What is in "Kafka", and outlives every router. */
export class PoisonLine {
  readonly events: RawEvent[] = [];
  readonly letters: DeadLetter[] = [];
  readonly schemas: Map<string, TableSchema>;
  readonly replica: Replica;
  readonly #since: [schema: TableSchema, commitLsn: bigint][];

  constructor(replica: Replica, schema = keyed) {
    this.replica = replica;
    this.#since = [[schema, 0n]];
    this.schemas = new Map([[schema.id, schema]]);
  }

  announce(schema: TableSchema, commitLsn: bigint): void {
    this.#since.push([schema, commitLsn]);
    this.schemas.set(schema.id, schema);
  }

  /** One router, from its start to the end of the topic or to the error that holds the partition. Throws the Crash that ended it. */
  async route(options: LineOptions = {}): Promise<{ readonly error: CascadeError | null; readonly held: HeldBook }> {
    const { policy = "dead-letter", maxKeys = 1_000, batchSize = 100, fault = () => {} } = options;
    const { progress, tables, schemas } = this.#books();
    const held = new HeldBook(this.replica);
    const publish = async (letters: readonly DeadLetter[]) => {
      await fault("publish", "before");
      this.letters.push(...letters);
      await fault("publish", "after");
    };
    const deadLetters = new DeadLetters({
      ...{ policy, maxKeys, held, tables, replica: this.replica },
      open: async () => ({ publish, [Symbol.asyncDispose]: async () => {} }),
    });
    let error: CascadeError | null = null;
    const resume = async () => {
      const offset = await progress.resume(partition);
      await held.reread();
      return Number(offset ?? 0n);
    };
    let next: number | null = null;
    const events = this.events;
    async function* batches(): AsyncGenerator<EventBatch> {
      for (;;) {
        next ??= await resume();
        if (error !== null || next >= events.length) return;
        const taken = events.slice(next, next + batchSize);
        next += taken.length;
        yield { partition, table: name, events: taken, nextOffset: BigInt(next), bytes: 0, lagEvents: 0n, traceParents: [] };
      }
    }
    await pump(
      {
        consumer: { batches, confirm: () => {} } as unknown as EventConsumer,
        replica: {
          apply: async (work, advance) => {
            await fault("apply", "before");
            await this.replica.apply(work, advance);
            await fault("apply", "after");
          },
        },
        received: () => {},
        traced: (_, work) => work(),
        turn: (batch, poison) =>
          turn(batch, { replicaName: "mine", dialect: this.replica.dialect, schemas, tables, progress, deadLetters }, poison),
        poison: deadLetters,
        atEnd: async () => {},
        applied: (_, step) => {
          progress.moved(step.advance);
          held.moved(step.work.holds);
        },
        hold: (_, failed) => {
          if (failed instanceof FencedError) next = null;
          else if (failed instanceof CascadeError && failed.verdict === "stop-table") error = failed;
          else throw failed;
        },
      },
      new AbortController().signal,
    );
    return { error, held };
  }

  replay(selected: Selected = () => true, replica: Replica = this.replica, maxBytes?: number): Promise<ReplayReport> {
    const { progress, tables, schemas } = this.#books();
    const letters: Parameters<typeof replay>[0]["letters"] = async (take) => {
      for (const { partition: from, position, event } of this.letters) take({ partition: from, position, event });
    };
    return replay({ replica, replicaName: "mine", prefix: "cascade", schemas, tables, progress, letters }, selected, maxBytes);
  }

  #books() {
    const progress = new ProgressBook(this.replica);
    const history = new SchemaHistory();
    for (const [schema, commitLsn] of this.#since)
      history.learn({ kind: "schema", schema, at: { commitLsn, ordinal: 0 }, rewritten: false });
    const tables = tableBook(this.replica, { history, moved: (advance) => progress.moved(advance) });
    const schemas = {
      history,
      settle: async () => {},
      known: (id: string) => this.schemas.get(id),
      get: async (id: string): Promise<TableSchema> => {
        const schema = this.schemas.get(id);
        if (schema !== undefined) return schema;
        throw new CascadeError({ code: "UNKNOWN_SCHEMA", verdict: "stop-table", message: id, advice: "" });
      },
      [Symbol.asyncDispose]: async () => {},
    };
    return { progress, tables, schemas };
  }
}
