import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { SchemaMessage, TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";

/** What a table was like from `at` on. */
export type SchemaVersion = Extract<SchemaMessage, { kind: "schema" }>;

/** What is known of one of main-db's tables: by oid, for names come and go. */
interface TableHistory {
  /** By `at`; those without one first, as they came. A schema that came back is there as often as Kafka still has it. */
  readonly versions: SchemaVersion[];
  newest: SchemaVersion;
  /** Of the newest message, a drop's too: what a cdc says late, which another has overtaken, is news of the past. */
  newestAt: Position | null;
  /** The newest message says that it is no more. */
  dropped: boolean;
}

/** The messages of `<prefix>.schemas` in the order they stand there, by table. */
export class SchemaHistory {
  readonly #tables = new Map<number, TableHistory>();
  /** The table that took each name last. */
  readonly #named = new Map<string, number>();
  /** Of the topic of each name; those alone that have several. */
  readonly #partitions = new Map<string, number>();
  /** Those that had more than one name: mostly none, where there may be thousands of tables. */
  readonly #renamed = new Map<number, TableHistory>();

  /** Tables of these names may look otherwise now. */
  learn(news: SchemaMessage): readonly TableName[] {
    if (news.kind === "schema") return this.#learnVersion(news);
    const table = this.#tables.get(news.oid);
    if (table === undefined) return [news];
    if (isOvertaken(news.at, table.newestAt)) return [];
    table.dropped = true;
    table.newestAt = news.at;
    return [news, table.newest.schema];
  }

  #learnVersion(version: SchemaVersion): readonly TableName[] {
    const { schema, at, partitions } = version;
    if (partitions === undefined) this.#partitions.delete(nameKey(schema));
    else this.#partitions.set(nameKey(schema), partitions);
    let table = this.#tables.get(schema.oid);
    if (table === undefined) {
      table = { versions: [], newest: version, newestAt: at, dropped: false };
      this.#tables.set(schema.oid, table);
    }
    const { versions } = table;
    if (versions.some((other) => !isSameName(other.schema, schema))) this.#renamed.set(schema.oid, table);
    // Read again, by a consumer that has joined its group anew, or said again behind another of the same place: it is the last one there.
    const again = versions.findIndex((other) => isSameVersion(other, version));
    if (again >= 0) versions.splice(again, 1);
    const next = versions.findIndex((other) => isBefore(at, other.at));
    versions.splice(next < 0 ? versions.length : next, 0, version);
    if (isOvertaken(at, table.newestAt)) return [];
    const before = table.newest.schema;
    table.newest = version;
    table.newestAt = at;
    table.dropped = false;
    this.#named.set(nameKey(schema), schema.oid);
    return isSameName(before, schema) ? [schema] : [schema, before];
  }

  /** What the table is like now; null when it is no more, undefined when nothing was said of it. */
  newest(oid: number): SchemaVersion | null | undefined {
    const table = this.#tables.get(oid);
    return table === undefined ? undefined : table.dropped ? null : table.newest;
  }

  /** What the table was like last, whether it still is or not. */
  last(oid: number): SchemaVersion | undefined {
    return this.#tables.get(oid)?.newest;
  }

  /** What the table was like first under the name that it has now; null when it is no more, or nothing was said of it. */
  firstOfName(oid: number): SchemaVersion | null {
    const newest = this.newest(oid);
    if (!newest) return null;
    return firstUnder(newest.schema, this.#tables.get(oid)?.versions ?? []) ?? newest;
  }

  /** The table that has the name now. */
  current(name: TableName): SchemaVersion | null {
    const newest = this.newest(this.#named.get(nameKey(name)) ?? -1);
    return newest && isSameName(newest.schema, name) ? newest : null;
  }

  /** What the tables are like now that ever had the name, those left out that are no more; null when none ever had it. */
  everNamed(name: TableName): readonly SchemaVersion[] | null {
    const had = [...this.#tables.values()].filter(({ versions }) => versions.some(({ schema }) => isSameName(schema, name)));
    return had.length === 0 ? null : had.flatMap(({ dropped, newest }) => (dropped ? [] : [newest]));
  }

  /** From where on the table was like this at `position`: where it was published, or that position where nobody said. */
  startOf(schema: TableSchema, position: Position): Position {
    const at = this.#upTo(schema.oid, position).findLast((version) => version.schema.id === schema.id)?.at;
    return at ?? position;
  }

  /** From where on, after `position`, the table was announced anew; null when it was not. */
  nextAfter(oid: number, position: Position): Position | null {
    const versions = this.#tables.get(oid)?.versions ?? [];
    return versions.find(({ at }) => at !== null && comparePositions(at, position) > 0)?.at ?? null;
  }

  /** Where the table was first met; null when that was not said. */
  beginningOf(oid: number): Position | null {
    return this.#tables.get(oid)?.versions[0]?.at ?? null;
  }

  /** Whether rows were written anew, unseen, after `from` and up to `to`. */
  isRewritten(oid: number, from: Position, to: Position): boolean {
    return this.#upTo(oid, to).some(({ at, rewritten }) => rewritten && at !== null && comparePositions(at, from) > 0);
  }

  /**
   * Since when the table that has `name` at `position` has had it without a break, and its other names; null when it never had another.
   * Those of later are among them: a schema that came back is in a compacted topic only where it was said last.
   */
  residence(oid: number, name: TableName, position: Position): { readonly since: Position; readonly others: TableName[] } | null {
    const table = this.#renamed.get(oid);
    if (table === undefined) return null;
    const versions = this.#upTo(oid, position);
    const since = firstUnder(name, versions)?.at;
    if (since === null || since === undefined) return null;
    const others = new Map<string, TableName>();
    for (const { schema } of table.versions) if (!isSameName(schema, name)) others.set(nameKey(schema), schema);
    return { since, others: [...others.values()] };
  }

  /** Whether the table had the name before `position`, and not from there on. */
  isFormerName(oid: number, name: TableName, position: Position): boolean {
    const last = this.#tables.get(oid)?.versions.findLast(({ schema }) => isSameName(schema, name));
    return last !== undefined && (last.at === null || comparePositions(last.at, position) < 0);
  }

  /** Where the table left the name last, up to `until`; null when it has not. */
  lastLeft(oid: number, name: TableName, until: Position): Position | null {
    const versions = this.#renamed.get(oid)?.versions ?? [];
    let left: Position | null = null;
    for (const [n, { schema, at }] of versions.entries()) {
      const before = versions[n - 1];
      if (before === undefined || at === null || comparePositions(at, until) > 0) continue;
      if (isSameName(before.schema, name) && !isSameName(schema, name)) left = at;
    }
    return left;
  }

  /** Over how many partitions of the topic of that name its rows are divided. */
  partitionsOf(name: TableName): number {
    return this.#partitions.size === 0 ? 1 : (this.#partitions.get(nameKey(name)) ?? 1);
  }

  /** Whether any table had more than one name. */
  get hasRenamed(): boolean {
    return this.#renamed.size > 0;
  }

  #upTo(oid: number, position: Position): readonly SchemaVersion[] {
    const versions = this.#tables.get(oid)?.versions ?? [];
    return versions.filter(({ at }) => at === null || comparePositions(at, position) <= 0);
  }
}

/** Of those at the end that have the name without a break. */
const firstUnder = (name: TableName, versions: readonly SchemaVersion[]): SchemaVersion | undefined =>
  versions[versions.findLastIndex(({ schema }) => !isSameName(schema, name)) + 1];

/** Not where a place is not told: an older cdc may have come back. */
const isOvertaken = (at: Position | null, newestAt: Position | null): boolean => at !== null && isBefore(at, newestAt);

const isBefore = (a: Position | null, b: Position | null): boolean => b !== null && (a === null || comparePositions(a, b) < 0);

const isSameVersion = (a: SchemaVersion, b: SchemaVersion): boolean =>
  a.at !== null &&
  b.at !== null &&
  comparePositions(a.at, b.at) === 0 &&
  a.schema.id === b.schema.id &&
  a.rewritten === b.rewritten;

export const nameKey = ({ schema, table }: TableName): string => JSON.stringify([schema, table]);
export const isSameName = (a: TableName, b: TableName): boolean => a.schema === b.schema && a.table === b.table;
