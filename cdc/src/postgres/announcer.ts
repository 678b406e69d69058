import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";
import type { SourceMessage } from "../change-source.ts";
import { oidOf, placeOf, type SchemaHistory } from "../schema-history.ts";
import type { Relation } from "./relation.ts";

interface Announced {
  /** null: dropped. */
  readonly schema: TableSchema | null;
  readonly at: Position;
  /** Not captured any more, though not dropped. */
  left: boolean;
}

/** Why a schema is told of. */
export interface Occasion {
  /** Whoever says so was in the transaction that changed the table; else the change was found later. */
  readonly told: boolean;
  /** The table's rows were changed past the WAL. */
  readonly rewritten: boolean;
}

/** Knows what `<prefix>.schemas` says of every table, and what of the stream is news there. */
export class Announcer {
  readonly #prefix: string;
  readonly #newest = new Map<number, Announced>();
  readonly #ids: Set<string>;

  constructor(prefix: string, history: SchemaHistory, left: readonly number[] = []) {
    this.#prefix = prefix;
    this.#ids = new Set(history.ids);
    for (const oid of history.oids) {
      const newest = history.newest(oid);
      if (newest === undefined) continue;
      const schema = newest.kind === "schema" ? newest.schema : null;
      this.#newest.set(oidOf(newest), { schema, at: placeOf(newest), left: left.includes(oid) });
    }
  }

  /** From `at` on the table looks like this. Says nothing where that is known: at a redelivery, or when nothing has changed. */
  current({ schema, topic }: Pick<Relation, "schema" | "topic">, at: Position, occasion: Occasion, into: SourceMessage[]): void {
    const known = this.#newest.get(schema.oid);
    if (known !== undefined && comparePositions(at, known.at) <= 0) return;
    const before = known?.schema ?? null;
    const returned = known?.left === true;
    const rewritten = occasion.rewritten || returned || (!occasion.told && before !== null && mayBeRewritten(before, schema));
    if (before?.id === schema.id && !rewritten) return;
    this.#newest.set(schema.oid, { schema, at, left: false });
    this.#ids.add(schema.id);
    const change = known !== undefined || occasion.told;
    into.push({
      kind: "schema",
      topic,
      schema,
      at,
      change,
      ...(rewritten ? { rewritten } : {}),
      ...(returned ? { returned } : {}),
    });
  }

  /** Rows of an older version are to come: it must be known, and the newest stay the newest. */
  former({ schema, topic }: Pick<Relation, "schema" | "topic">, at: Position, into: SourceMessage[]): void {
    if (this.#ids.has(schema.id)) return;
    const newest = this.#newest.get(schema.oid);
    this.#ids.add(schema.id);
    into.push({ kind: "schema", topic, schema, at: newest?.at ?? at, change: false });
    if (newest === undefined) this.#newest.set(schema.oid, { schema, at, left: false });
    else if (newest.schema !== null)
      into.push({
        kind: "schema",
        topic: topicOf(this.#prefix, newest.schema),
        schema: newest.schema,
        at: newest.at,
        change: false,
      });
  }

  isKnown(id: string): boolean {
    return this.#ids.has(id);
  }

  /** The table is gone. Says nothing of one that was never announced. */
  dropped(oid: number, at: Position, into: SourceMessage[]): void {
    const known = this.#newest.get(oid);
    if (known === undefined || known.schema === null || comparePositions(at, known.at) <= 0) return;
    const { schema, table } = known.schema;
    this.#newest.set(oid, { schema: null, at, left: false });
    into.push({ kind: "dropped", schema, table, oid, at });
  }

  /** The table is there, and not captured any more from `at` on. Whether that is news. */
  leaves(oid: number, at: Position, into: SourceMessage[]): boolean {
    const known = this.#newest.get(oid);
    if (known === undefined || known.left || known.schema === null || comparePositions(at, known.at) <= 0) return false;
    known.left = true;
    const { schema, table } = known.schema;
    into.push({ kind: "left", oid, schema, table });
    return true;
  }

  /** OIDs of tables that look otherwise than was said last, or are not there. */
  differing(relations: readonly Relation[]): readonly number[] {
    const now = new Map(relations.map(({ schema }) => [schema.oid, schema.id]));
    const changed = [...now].filter(([oid, id]) => this.#newest.get(oid)?.schema?.id !== id || this.#newest.get(oid)?.left);
    const gone = [...this.#newest].filter(([oid, { schema, left }]) => schema !== null && !left && !now.has(oid));
    return [...changed, ...gone].map(([oid]) => oid);
  }
}

/**
 * Whether rows that were there may hold values that came past the WAL, judged by the two looks alone: a column of another type, or a new
 * one that could not be left to NULL or to the value that `missing` tells.
 */
export function mayBeRewritten(before: TableSchema, after: TableSchema): boolean {
  const old = new Map(before.columns.map((column) => [column.attnum, column]));
  return after.columns.some((column) => {
    const was = old.get(column.attnum);
    if (was !== undefined) return was.typeOid !== column.typeOid || !isWidened(was, column);
    return column.missing === undefined && (column.default !== null || column.generated || !column.nullable);
  });
}

const VARCHAR = 1043;
const NUMERIC = 1700;

/** Equal modifiers, or a wider one that leaves every value as it is: no modifier, a longer varchar, more digits before the point. */
function isWidened({ typmod: was }: ColumnSchema, { typmod: is, typeOid }: ColumnSchema): boolean {
  if (is === was || is === -1) return true;
  if (was === -1 || is < was) return false;
  return typeOid === VARCHAR || (typeOid === NUMERIC && (is - 4) % 0x1_0000 === (was - 4) % 0x1_0000);
}
