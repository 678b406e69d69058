import type { CapturedRow, ChangeEvent, EventTable, WireRow } from "@cascade/shared/change-event";
import { type KeyText, keyTextOf, partOf } from "@cascade/shared/key-parts";
import type { TableSchema } from "@cascade/shared/table-schema";

/** An event, and the partition of its table's topic that it goes to. */
export interface PlacedEvent {
  readonly partition: number;
  readonly event: ChangeEvent;
}

/** Where the rows go that cannot be divided by their key. */
const WHOLE = 0;

/**
 * Divides a table's events over the partitions of its topic, so that those of one key stay in their order (docs/decisions/0031). What
 * concerns all keys goes to all partitions. An update from a key of one partition to a key of another goes to that of the new key, and is told to the one of
 * the old key as a delete at the same position.
 */
export class Partitioning {
  readonly #schemas = new Map<string, TableSchema>();
  readonly #texts = new Map<string, KeyText | null>();
  readonly #moved = new WeakMap<EventTable, Map<string, EventTable>>();

  /** Before its first event. */
  learn(schema: TableSchema): void {
    this.#schemas.set(schema.id, schema);
  }

  /** For each row of a topic with `count` partitions, more than one. */
  place(event: ChangeEvent, count: number): readonly PlacedEvent[] {
    if (event.op === "t") return Array.from({ length: count }, (_, partition) => ({ partition, event: { ...event } }));
    const textOf = this.#textOf(event.table.schemaId);
    if (textOf === null || event.key === null) return [{ partition: WHOLE, event }];
    const partition = partOf(textOf(parsed(event.key)), count);
    if (event.op !== "u" || event.before === null) return [{ partition, event }];
    const before = parsed(event.before);
    const old = partOf(textOf(before), count);
    return old === partition ? [{ partition, event }] : this.#move(event, before, { from: old, to: partition });
  }

  #move(
    event: ChangeEvent,
    before: WireRow,
    { from, to }: { readonly from: number; readonly to: number },
  ): readonly PlacedEvent[] {
    const { columns, key } = this.#schema(event.table.schemaId);
    const row = { ...before, ...(event.after === null ? {} : parsed(event.after)) };
    // The row's other columns are only in the replica's row of the old key, which must not go before.
    const isWhole = columns.every(({ name }) => Object.hasOwn(row, name));
    const left: ChangeEvent = {
      ...event,
      op: "d",
      table: isWhole ? event.table : this.#marked(event.table, { movedTo: to }),
      key: JSON.stringify(Object.fromEntries(key.map((name) => [name, before[name]]))),
      after: null,
    };
    return [
      { partition: from, event: left },
      { partition: to, event: { ...event, table: this.#marked(event.table, { movedFrom: from }) } },
    ];
  }

  /** The same object for the same mark: what is made of a table once is kept by it. */
  #marked(table: EventTable, mark: { readonly movedFrom: number } | { readonly movedTo: number }): EventTable {
    const known = this.#moved.get(table) ?? new Map<string, EventTable>();
    this.#moved.set(table, known);
    const name = JSON.stringify(mark);
    const marked = known.get(name) ?? { ...table, ...mark };
    known.set(name, marked);
    return marked;
  }

  #textOf(schemaId: string): KeyText | null {
    let text = this.#texts.get(schemaId);
    if (text === undefined) {
      text = keyTextOf(this.#schema(schemaId));
      this.#texts.set(schemaId, text);
    }
    return text;
  }

  #schema(schemaId: string): TableSchema {
    const schema = this.#schemas.get(schemaId);
    if (schema === undefined) throw new Error(`schema ${schemaId} was not announced before its first event`);
    return schema;
  }
}

const parsed = (row: CapturedRow): WireRow => JSON.parse(String(row)) as WireRow;
