import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Relation } from "./relation.ts";
import type { TableDecoder } from "./table-decoder.ts";

/** A relation as its rows are read where the stream is now. */
export class Reader {
  readonly relation: Relation;
  /** null before its first row: of the thousands of partitions of a tree few are written to. */
  decoder: TableDecoder | null = null;
  /** Its schema was told of, or is known. */
  announced = false;
  /** The table is known in a newer version, or to have left: these rows were on their way when it was read. */
  readonly former: boolean;

  constructor(relation: Relation, former = false) {
    this.relation = relation;
    this.former = former;
  }
}

/** Why rows of a name are left out: by the catalog's word, or (`uncaptured`) by a message's, which holds until the next one. */
export type Unread = "excluded" | "absent" | "uncaptured";

/** How long a name counts as excluded where only the catalog tells: it could become a partition of a captured table. */
const EXCLUDED_FOR_MS = 1000;

/** What the names in the WAL mean where the stream is now. */
export class RelationBook {
  /** By schema, then table: no key is built per row. */
  readonly #byName = new Map<string, Map<string, Reader | Unread>>();
  readonly #byOid = new Map<number, Reader>();
  /** OIDs by their root's. */
  readonly #trees = new Map<number, Set<number>>();
  /** Readers from before everything was forgotten, by name: rows from before may still be on their way. */
  readonly #former = new Map<string, Reader>();
  #hasUnread = false;
  #forgottenAtMs = Number.NEGATIVE_INFINITY;

  find(schema: string, table: string): Reader | Unread | undefined {
    return this.#byName.get(schema)?.get(table);
  }

  ofOid(oid: number): Reader | undefined {
    return this.#byOid.get(oid);
  }

  ofTree(rootOid: number): readonly Reader[] {
    return [...(this.#trees.get(rootOid) ?? [])].map((oid) => this.#byOid.get(oid) as Reader);
  }

  former(name: TableName): Reader | undefined {
    return this.#former.get(formatTableName(name));
  }

  /** From here on the name is this relation's, and the relation has no other. */
  put(reader: Reader): void {
    const { oid, name, schema } = reader.relation;
    this.remove(oid);
    // Whoever had the name before is told of under another one, or gone, or was told of wrongly.
    this.#setName(name, reader);
    this.#byOid.set(oid, reader);
    const tree = this.#trees.get(schema.oid);
    if (tree === undefined) this.#trees.set(schema.oid, new Set([oid]));
    else tree.add(oid);
  }

  putUnread(name: TableName, unread: Unread): void {
    this.#setName(name, unread);
    if (unread !== "uncaptured") this.#hasUnread = true;
  }

  remove(oid: number): void {
    const reader = this.#byOid.get(oid);
    if (reader === undefined) return;
    const { name, schema } = reader.relation;
    this.#byOid.delete(oid);
    const tree = this.#trees.get(schema.oid);
    tree?.delete(oid);
    if (tree?.size === 0) this.#trees.delete(schema.oid);
    // Another relation may have taken the name meanwhile.
    const tables = this.#byName.get(name.schema);
    if (tables?.get(name.table) === reader) tables.delete(name.table);
  }

  /** Everything is to be read anew. */
  forget(): void {
    for (const reader of this.#byOid.values()) this.#former.set(formatTableName(reader.relation.name), reader);
    this.#byName.clear();
    this.#byOid.clear();
    this.#trees.clear();
  }

  /** A name that stood for nothing may be a table by the next transaction. */
  forgetUnread(): void {
    if (!this.#hasUnread) return;
    const now = performance.now();
    const excludedToo = now - this.#forgottenAtMs >= EXCLUDED_FOR_MS;
    if (excludedToo) this.#forgottenAtMs = now;
    this.#hasUnread = !excludedToo;
    for (const tables of this.#byName.values()) {
      for (const [table, reader] of tables) {
        if (reader === "absent" || (reader === "excluded" && excludedToo)) tables.delete(table);
      }
    }
  }

  #setName({ schema, table }: TableName, value: Reader | Unread): void {
    const tables = this.#byName.get(schema);
    if (tables === undefined) this.#byName.set(schema, new Map([[table, value]]));
    else tables.set(table, value);
  }
}
