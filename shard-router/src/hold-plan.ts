import type { ReceivedEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { type DeadLetter, KEY_HELD } from "./dead-letter.ts";
import type { EventBatch, RawEvent } from "./event-consumer.ts";
import type { HeldKeys } from "./held-book.ts";
import {
  type Cause,
  type HeldKey,
  type HoldChange,
  isWhole,
  keyColumns,
  keyJson,
  keysOfEvent,
  type RowKey,
  wholeRow,
} from "./held-keys.ts";

export interface HoldPlanOptions {
  readonly batch: Pick<EventBatch, "partition" | "table">;
  /** As the replica has them before the batch. */
  readonly held: HeldKeys;
  /** Of one table; past that it stops. */
  readonly maxKeys: number;
  /** The batch is one event, which the replica refuses for this. */
  readonly poison: CascadeError | null;
  readonly rawOf: (event: ReceivedEvent) => RawEvent;
}

/** Which events of a batch are held back, and which keys with them. */
export class HoldPlan {
  readonly #options: HoldPlanOptions;
  /** As they are at this place of the batch. */
  readonly #keys: Map<string, HeldKey>;
  readonly #letters: DeadLetter[];
  readonly #withheld: Set<ReceivedEvent>;

  constructor(options: HoldPlanOptions, from?: HoldPlan) {
    this.#options = options;
    this.#keys = new Map(from === undefined ? options.held : from.#keys);
    this.#letters = from === undefined ? [] : [...from.#letters];
    this.#withheld = new Set(from === undefined ? [] : from.#withheld);
  }

  /** One that can be given up. */
  fork(): HoldPlan {
    return new HoldPlan(this.#options, this);
  }

  get letters(): readonly DeadLetter[] {
    return this.#letters;
  }

  isWithheld(event: ReceivedEvent): boolean {
    return this.#withheld.has(event);
  }

  /**
   * The events without those that are held back. A truncate, and a row read by a copy, say all that there is to say of their rows: what is
   * held of them is void from there on (unless another key's row is made of it). Throws a CascadeError that stops the table where it
   * cannot be told what must be held back.
   */
  withhold(schema: TableSchema, events: readonly ReceivedEvent[]): readonly ReceivedEvent[] {
    const { poison } = this.#options;
    // Also of a key that the table has no more: a copy begins so where the rows did not allow the new one.
    if (poison === null && events[0]?.op === "t") this.release(schema.oid);
    const held = this.#ofTable(schema.oid);
    if (held.length === 0 && poison === null) return events;
    const columns = keyColumns(schema);
    if (held.some((key) => key.columns !== columns)) throw keyChanged(schema, held.length);
    return events.filter((event) => {
      const keys = keysOfEvent(schema, event);
      if (poison !== null) {
        if (keys === null || keys.length === 0) throw poison;
      } else if (event.op === "t") {
        this.release(schema.oid);
        return true;
      } else if (event.op === "r" && !keys?.some(({ id }) => this.#keys.get(id)?.isLinked)) {
        for (const { id } of keys ?? []) this.#keys.delete(id);
        return true;
      } else if (keys === null || !keys.some(({ id }) => this.#keys.has(id))) {
        return true; // without a key to read it is refused where it is rendered
      }
      this.#hold(schema, event, keys);
      return false;
    });
  }

  /** The table is no more, or empty: nothing of it is left to be held. */
  release(oid: number): void {
    for (const { id } of this.#ofTable(oid)) this.#keys.delete(id);
  }

  changes(): readonly HoldChange[] {
    const { held } = this.#options;
    const changes: HoldChange[] = [];
    for (const from of held.values()) {
      const to = this.#keys.get(from.id);
      if (to === undefined) changes.push({ kind: "release", from });
      else if (to !== from) changes.push({ kind: "change", from, to });
    }
    for (const key of this.#keys.values()) if (!held.has(key.id)) changes.push({ kind: "hold", key });
    return changes;
  }

  #ofTable(oid: number): readonly HeldKey[] {
    return [...this.#keys.values()].filter((key) => key.oid === oid);
  }

  #hold(schema: TableSchema, event: ReceivedEvent, keys: readonly RowKey[]): void {
    const { batch, poison, rawOf } = this.#options;
    const position = { commitLsn: event.commitLsn, ordinal: event.ordinal };
    const cause = poison === null ? KEY_HELD : causeOf(poison);
    const links = keys.length > 1 && !isWhole(schema, wholeRow(event.before, event.after));
    const fresh = keys.filter(({ id }) => !this.#keys.has(id)).length;
    if (fresh > 0) this.#checkRoom(schema, fresh, cause);
    for (const { id, row } of keys) {
      const held = this.#keys.get(id);
      if (held !== undefined) {
        const why = poison === null ? held.cause : cause;
        const isLinked = held.isLinked || links;
        this.#keys.set(id, { ...held, last: position, events: held.events + 1, isLinked, cause: why });
        continue;
      }
      this.#keys.set(id, {
        ...{ partition: batch.partition, id, oid: schema.oid, columns: keyColumns(schema), text: keyJson(schema, row) },
        ...{ first: position, last: position, events: 1, isLinked: links, cause, heldAtMs: Date.now() },
      });
    }
    const raw = rawOf(event) as RawEvent & { readonly value: string };
    this.#letters.push({ table: batch.table, partition: batch.partition, event: raw, position, cause });
    this.#withheld.add(event);
  }

  /** For one change there is always room where nothing else is held: a row that moves takes two. */
  #checkRoom(schema: TableSchema, fresh: number, cause: Cause): void {
    const { maxKeys } = this.#options;
    const count = this.#ofTable(schema.oid).length;
    if (count === 0 || count + fresh <= maxKeys) return;
    throw new CascadeError({
      code: "TOO_MANY_HELD_KEYS",
      verdict: "stop-table",
      message: `${count} keys of table ${formatTableName(schema)} are held back, and no more than ${maxKeys} may be (ROUTER_MAX_HELD_KEYS); the next would be for ${cause.code}: ${cause.message}`,
      advice: `that many rows refused is something about the table: ${cause.advice}; then replay what is held (\`bun run --cwd shard-router dead-letters replay\`), and the table goes on by itself`,
    });
  }
}

export const causeOf = ({ code, message, advice }: CascadeError): Cause => ({ code, message, advice });

/** What is held could not be told from what is not. */
function keyChanged(schema: TableSchema, count: number): CascadeError {
  return new CascadeError({
    code: "HELD_KEY_CHANGED",
    verdict: "stop-table",
    message: `the key of table ${formatTableName(schema)} has other columns or types now, and ${count} keys of before are held back`,
    advice:
      "replay them, or discard them and copy the table again (`bun run --cwd shard-router dead-letters --help`); the table goes on by itself",
  });
}
