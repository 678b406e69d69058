import type { Lsn, Position } from "@cascade/shared/lsn";
import { comparePositions } from "@cascade/shared/lsn";
import type { SchemaMessage, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName, topicOf } from "@cascade/shared/topic";
import type { SourceMessage } from "../change-source.ts";
import type { Announcement } from "../event-publisher.ts";
import { oidOf, placeOf, type SchemaHistory } from "../schema-history.ts";
import { Announcer } from "./announcer.ts";
import type { DdlMessage } from "./ddl-message.ts";
import { type Capture, type Relation, relationsOf } from "./relation.ts";
import { Reader, RelationBook, type Unread } from "./relation-book.ts";

export interface KnownTablesOptions {
  readonly capture: Capture;
  readonly history: SchemaHistory;
  /** OIDs of tables that had left when the last life ended. */
  readonly left: readonly number[];
  readonly warn: (message: string) => void;
}

/**
 * What tables are called and look like where the stream is: from the catalog at first, from what was announced before a restart, and from
 * the messages that schema changes leave in the WAL.
 */
export class KnownTables {
  readonly announcer: Announcer;
  readonly #options: KnownTablesOptions;
  readonly #book = new RelationBook();
  /** What was announced in an earlier life of places that this one comes to again. */
  #upcoming: SchemaMessage[] = [];
  /** Of the transaction in hand: roots whose rows were rewritten, names whose rows were left out. */
  readonly #rewritten = new Set<number>();
  readonly #leftOut = new Set<string>();

  constructor(options: KnownTablesOptions) {
    this.#options = options;
    this.announcer = new Announcer(options.capture.prefix, options.history, options.left);
  }

  get capture(): Capture {
    return this.#options.capture;
  }
  get history(): SchemaHistory {
    return this.#options.history;
  }

  /**
   * Takes note of the catalog where a slot that replaces a lost one begins, at `from`. Returns what has changed since the lost one's end,
   * which no stream will tell.
   * @param there tables that are not captured, and not gone either
   * @param other main-db is another server: whatever is called the same was written anew
   */
  beginAnew(relations: readonly Relation[], from: Lsn, there: ReadonlySet<number>, other: boolean): readonly Announcement[] {
    const found = new Set(relations.map(({ schema }) => schema.oid));
    const news: SourceMessage[] = [];
    const place = () => ({ commitLsn: from - 1n, ordinal: news.length });
    for (const oid of this.history.oids) {
      if (found.has(oid)) continue;
      if (there.has(oid) && !other) this.announcer.leaves(oid, place(), news);
      // One that has left, too: a copy that finds its table gone takes note of that before the stream tells why.
      else this.announcer.dropped(oid, place(), news);
    }
    for (const relation of relations) {
      this.#book.put(new Reader(relation));
      if (relation.oid === relation.schema.oid)
        this.announcer.current(relation, place(), { told: false, rewritten: other }, news);
    }
    return news.filter((message) => message.kind === "schema" || message.kind === "dropped");
  }

  /**
   * Takes note of the catalog, where the stream begins at `from`. Returns what is to be announced before anything else: at the very first
   * start every table. Later the catalog may be ahead of the stream, which will tell.
   */
  begin(relations: readonly Relation[], from: Lsn): readonly Announcement[] {
    const { history } = this;
    const isFirst = history.ids.size === 0;
    this.#upcoming = [...history.after(from)];
    const found = new Set<number>();
    const news: SourceMessage[] = [];
    const at = { commitLsn: from === 0n ? 0n : from - 1n, ordinal: 0 };
    const known: { readonly then: SchemaMessage; readonly put: () => void }[] = [];
    for (const relation of relations) {
      const { oid } = relation.schema;
      found.add(oid);
      const then = history.asOf(oid, from);
      if (then?.kind === "schema")
        known.push({ then, put: () => this.#book.put(new Reader(asOf(relation, then.schema, this.capture))) });
      if (!isFirst) continue;
      this.#book.put(new Reader(relation));
      if (relation.oid === oid) this.announcer.current(relation, at, { told: true, rewritten: false }, news);
    }
    for (const oid of history.oids) {
      const then = history.asOf(oid, from);
      // Rows of one that has left are of before: that it is back, the catalog or a message would say.
      if (!found.has(oid) && then?.kind === "schema")
        known.push({ then, put: () => this.#putSchema(then.schema, null, this.#options.left.includes(oid)) });
    }
    // A table that leaves is not announced: a name is that table's which was announced last under it.
    known.sort((one, other) => comparePositions(placeOf(one.then), placeOf(other.then)));
    for (const { put } of known) put();
    return news.flatMap((message) => (message.kind === "schema" ? [{ ...message, change: false }] : []));
  }

  find(schema: string, table: string): Reader | Unread | undefined {
    return this.#book.find(schema, table);
  }

  /** Read from the catalog, or made to fit a row. */
  put(reader: Reader): void {
    this.#book.put(reader);
  }

  leaveOut(name: TableName, unread: Unread): void {
    this.#book.putUnread(name, unread);
    this.#leftOut.add(formatTableName(name));
  }

  former(name: TableName): Reader | undefined {
    return this.#book.former(name);
  }

  /** Whether it is known under another name. */
  hasOtherName({ oid, name }: Relation): boolean {
    const known = this.#book.ofOid(oid)?.relation.name;
    return known !== undefined && (known.schema !== name.schema || known.table !== name.table);
  }

  forget(): void {
    this.#book.forget();
  }

  beginTransaction(): void {
    this.#book.forgetUnread();
    if (this.#rewritten.size > 0) this.#rewritten.clear();
    if (this.#leftOut.size > 0) this.#leftOut.clear();
  }

  get hasUpcoming(): boolean {
    return this.#upcoming.length > 0;
  }

  /** Takes up what was announced in an earlier life of places up to `position`. */
  catchUp(position: Position): void {
    for (let next = this.#upcoming[0]; next !== undefined; next = this.#upcoming[0]) {
      if (comparePositions(placeOf(next), position) > 0) return;
      this.#upcoming.shift();
      if (next.kind === "dropped") this.#book.remove(oidOf(next));
      else this.#putSchema(next.schema, next.schema.oid);
    }
  }

  /** A message of a schema change, at its place; `look` is the caller's. */
  told(message: Exclude<DdlMessage, { readonly kind: "look" }>, at: Position, into: SourceMessage[]): void {
    switch (message.kind) {
      case "rewritten":
        this.#rewritten.add(message.oid);
        return;
      case "gone":
        for (const { oid, dropped } of message.oids) this.#gone(oid, dropped, at, into);
        return;
      case "relations": {
        const captured = new Map(relationsOf(message.rows, this.capture).map((relation) => [relation.oid, relation]));
        for (const row of message.rows.relations) {
          this.#detached(Number(row.oid), Number(row.root_oid));
          const relation = captured.get(Number(row.oid));
          if (relation === undefined) this.#uncaptured(Number(row.oid), row, at, into);
          else this.#changed(relation, { filled: row.filled === true, told: !message.late }, at, into);
        }
      }
    }
  }

  #changed(
    relation: Relation,
    { filled, told }: { readonly filled: boolean; readonly told: boolean },
    at: Position,
    into: SourceMessage[],
  ): void {
    const { oid, schema, name } = relation;
    const before = this.#book.ofOid(oid);
    const leftOut = this.#leftOut.delete(formatTableName(name));
    // Its rows were another table's until now.
    const moved = filled && told && before !== undefined && before.relation.schema.oid !== schema.oid;
    const isKnown =
      before !== undefined && isSame(before.relation, relation) && this.#book.find(name.schema, name.table) === before;
    if (!isKnown) this.#book.put(new Reader(relation));
    // As a table of its own it is no more.
    if (oid !== schema.oid) this.announcer.leaves(oid, at, into);
    const rewritten = this.#rewritten.has(schema.oid) || leftOut || moved;
    if (oid === schema.oid || moved) this.announcer.current(relation, at, { told, rewritten }, into);
    if (rewritten) this.#rewritten.delete(schema.oid);
  }

  /** A partition of a captured table is one no more. */
  #detached(oid: number, rootOid: number): void {
    const before = this.#book.ofOid(oid)?.relation;
    if (before === undefined || before.oid === before.schema.oid || before.schema.oid === rootOid) return;
    this.#options.warn(rowsStay(before, "detached"));
  }

  #uncaptured(oid: number, name: TableName, at: Position, into: SourceMessage[]): void {
    this.#book.remove(oid);
    this.#book.putUnread({ schema: name.schema, table: name.table }, "uncaptured");
    if (this.announcer.leaves(oid, at, into))
      this.#options.warn(`${formatTableName(name)} is not of CDC_TABLES by that name: its changes are not captured any more`);
  }

  #gone(oid: number, dropped: boolean, at: Position, into: SourceMessage[]): void {
    const relation = this.#book.ofOid(oid)?.relation;
    this.#book.remove(oid);
    if (dropped) this.announcer.dropped(oid, at, into);
    if (relation === undefined) return;
    const name = formatTableName(relation.name);
    if (relation.oid !== relation.schema.oid) this.#options.warn(rowsStay(relation, dropped ? "dropped" : "made unlogged"));
    else if (!dropped && this.announcer.leaves(oid, at, into))
      this.#options.warn(`${name} is unlogged now: its changes are not captured any more`);
  }

  /** A table, and with it every partition of it, in a version that was announced. */
  #putSchema(schema: TableSchema, rootOid: number | null, former = false): void {
    const readers = rootOid === null ? [] : this.#book.ofTree(rootOid);
    for (const reader of readers) this.#book.put(new Reader(asOf(reader.relation, schema, this.capture), reader.former));
    if (readers.length > 0 || !this.capture.filter.matches(schema)) return;
    this.#book.put(new Reader(fromSchema(schema, this.capture), former));
  }
}

const rowsStay = ({ name, schema }: Relation, what: string): string =>
  `partition ${formatTableName(name)} was ${what}: its rows stay in ${formatTableName(schema)} on the replicas; delete them there, or on main-db before a partition goes`;

/** The relation with its table in another version. What a row of it really has is found from the first one that does not fit. */
function asOf(relation: Relation, schema: TableSchema, capture: Capture): Relation {
  if (relation.schema.id === schema.id) return relation;
  const then = fromSchema(schema, capture);
  const declared = new Map(relation.walColumns.map((column) => [column.name, column]));
  const walColumns = then.walColumns.map((column) => declared.get(column.name) ?? column);
  if (relation.oid === schema.oid) return { ...then, kind: relation.kind, walColumns };
  return { ...relation, schema, topic: then.topic, walColumns, guessed: true };
}

function fromSchema(schema: TableSchema, { prefix }: Capture): Relation {
  return {
    oid: schema.oid,
    name: { schema: schema.schema, table: schema.table },
    kind: "table",
    topic: topicOf(prefix, schema),
    schema,
    walColumns: schema.columns.map(({ name, typeOid }) => ({ name, declaredTypeOid: typeOid })),
    identityColumns: null,
    guessed: true,
  };
}

function isSame(a: Relation, b: Relation): boolean {
  return (
    a.schema.id === b.schema.id &&
    a.kind === b.kind &&
    a.name.schema === b.name.schema &&
    a.name.table === b.name.table &&
    a.topic === b.topic &&
    JSON.stringify([a.walColumns, a.identityColumns]) === JSON.stringify([b.walColumns, b.identityColumns])
  );
}
