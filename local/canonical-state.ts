import { parseTableFilter } from "@cascade/shared/table-pattern";
import { formatTableName } from "@cascade/shared/topic";
import { openDuckdbReader } from "./canonical-duckdb.ts";
import { openMysqlReader } from "./canonical-mysql.ts";
import { openPostgresReader, readTables } from "./canonical-postgres.ts";
import { openSqliteReader } from "./canonical-sqlite.ts";
import { type CanonicalRow, type CanonicalTable, compareOrder } from "./canonical-value.ts";

/** Reads tables of one database in canonical text. */
export interface RowReader extends AsyncDisposable {
  /** Every row in the order of `compareOrder`, a chunk at a time; a text when it can't be read, saying why. One table after another. */
  rows(table: CanonicalTable): Promise<AsyncIterable<CanonicalRow> | string>;
}

type Rows = Pick<RowReader, "rows">;

/** By the scheme of a URL: one function for each engine. */
const readers: Readonly<Record<string, (url: string) => Promise<RowReader>>> = {
  postgres: openPostgresReader,
  postgresql: openPostgresReader,
  mysql: openMysqlReader,
  mariadb: openMysqlReader,
  sqlite: openSqliteReader,
  duckdb: openDuckdbReader,
};

export const readableSchemes: readonly string[] = Object.keys(readers);

export const schemeOf = (url: string): string => /^([a-z]+):/.exec(url)?.[1] ?? "";

export interface TableComparison {
  readonly table: string;
  /** On main-db. */
  readonly rows: number;
  /** Rows of main-db that the replica lacks, and the other way round. */
  readonly missing: number;
  readonly extra: number;
  /** Rows of the same key with another value. */
  readonly different: number;
  /** What is wrong with the first row that is, for people. */
  readonly firstDifference?: string;
}

export const isEqual = ({ missing, extra, different }: TableComparison): boolean => missing + extra + different === 0;

/**
 * Compares every table of main-db that the filter takes (`CDC_TABLES`' patterns) with the replica's, row by row and value by
 * value. Both sides are read as they are now: first stop the writers and let the replica catch up.
 */
export async function compareReplica(
  mainUrl: string,
  replicaUrl: string,
  tables = "public.*",
): Promise<readonly TableComparison[]> {
  const filter = parseTableFilter(tables);
  const captured = (await readTables(mainUrl)).filter(({ schema, name }) => filter.matches({ schema, table: name }));
  await using main = await openPostgresReader(mainUrl);
  await using replica = await readerOf(replicaUrl);
  const comparisons: TableComparison[] = [];
  for (const table of captured) comparisons.push(await compareTable(table, main, replica));
  return comparisons;
}

/** As `compareReplica`, of replicas that hold a part of the rows each: together they must have each of them once. */
export async function compareShards(
  mainUrl: string,
  replicaUrls: readonly string[],
  tables: string,
): Promise<readonly TableComparison[]> {
  const filter = parseTableFilter(tables);
  const captured = (await readTables(mainUrl)).filter(({ schema, name }) => filter.matches({ schema, table: name }));
  await using open = new AsyncDisposableStack();
  const main = open.use(await openPostgresReader(mainUrl));
  const shards: RowReader[] = [];
  for (const url of replicaUrls) shards.push(open.use(await readerOf(url)));
  const comparisons: TableComparison[] = [];
  for (const table of captured) comparisons.push(await compareTable(table, main, { rows: (of) => unionOf(of, shards) }));
  return comparisons;
}

/** Their rows in one order. */
async function unionOf(table: CanonicalTable, shards: readonly RowReader[]): Promise<AsyncIterable<CanonicalRow> | string> {
  const found = await Promise.all(shards.map((shard) => shard.rows(table)));
  const problem = found.find((rows) => typeof rows === "string");
  return typeof problem === "string" ? problem : merged(table, found as readonly AsyncIterable<CanonicalRow>[]);
}

async function* merged(table: CanonicalTable, parts: readonly AsyncIterable<CanonicalRow>[]): AsyncGenerator<CanonicalRow> {
  const iterators = parts.map((rows) => rows[Symbol.asyncIterator]());
  const heads = await Promise.all(iterators.map((rows) => rows.next()));
  for (;;) {
    let least = -1;
    for (const [at, head] of heads.entries()) {
      if (head.done) continue;
      if (least === -1 || compareOrder(table, head.value, (heads[least] as IteratorYieldResult<CanonicalRow>).value) < 0)
        least = at;
    }
    if (least === -1) return;
    yield (heads[least] as IteratorYieldResult<CanonicalRow>).value;
    heads[least] = await (iterators[least] as AsyncIterator<CanonicalRow>).next();
  }
}

async function readerOf(url: string): Promise<RowReader> {
  const open = readers[schemeOf(url)];
  if (open === undefined) throw new Error(`Replicas are compared on ${readableSchemes.join(", ")}, not on ${schemeOf(url)}.`);
  return await open(url);
}

async function compareTable(table: CanonicalTable, main: Rows, replica: Rows): Promise<TableComparison> {
  const found = { rows: 0, missing: 0, extra: 0, different: 0 };
  let firstDifference: string | undefined;
  const note = (kind: "missing" | "extra" | "different", describe: () => string): void => {
    found[kind] += 1;
    firstDifference ??= describe();
  };
  const [source, copy] = [await main.rows(table), await replica.rows(table)];
  if (typeof copy === "string") firstDifference = copy;
  for await (const [ours, theirs] of pairs(table, rowsOf(source), rowsOf(copy))) {
    if (ours !== null) found.rows += 1;
    if (theirs === null) note("missing", () => `missing: ${rowText(table, ours)}`);
    else if (ours === null) note("extra", () => `extra: ${rowText(table, theirs)}`);
    else if (ours.some((value, at) => value !== theirs[at])) note("different", () => valueText(table, ours, theirs));
  }
  const name = formatTableName({ schema: table.schema, table: table.name });
  const wrong = found.missing + found.extra + found.different > 0;
  return { table: name, ...found, ...(wrong && firstDifference !== undefined ? { firstDifference } : {}) };
}

async function* rowsOf(found: AsyncIterable<CanonicalRow> | string): AsyncGenerator<CanonicalRow> {
  if (typeof found !== "string") yield* found;
}

type Pair = readonly [CanonicalRow, CanonicalRow | null] | readonly [null, CanonicalRow];

/** Walks both in their common order: rows of the same place are a pair, and one of a kind stands alone. */
async function* pairs(
  table: CanonicalTable,
  source: AsyncIterable<CanonicalRow>,
  copy: AsyncIterable<CanonicalRow>,
): AsyncGenerator<Pair> {
  const [left, right] = [source[Symbol.asyncIterator](), copy[Symbol.asyncIterator]()];
  const next = async (rows: AsyncIterator<CanonicalRow>): Promise<CanonicalRow | null> => {
    const { done, value } = await rows.next();
    return done ? null : value;
  };
  let [ours, theirs] = [await next(left), await next(right)];
  while (ours !== null || theirs !== null) {
    const order = ours === null ? 1 : theirs === null ? -1 : compareOrder(table, ours, theirs);
    if (order === 0 && ours !== null) yield [ours, theirs];
    else if (order < 0 && ours !== null) yield [ours, null];
    else if (theirs !== null) yield [null, theirs];
    if (order <= 0) ours = await next(left);
    if (order >= 0) theirs = await next(right);
  }
}

function rowText({ columns, keyLength }: CanonicalTable, row: CanonicalRow | null): string {
  const shown = columns.slice(0, keyLength === 0 ? 6 : keyLength);
  return shown.map(({ name }, at) => `${name} = ${short(row?.[at] ?? null)}`).join(", ");
}

function valueText(table: CanonicalTable, ours: CanonicalRow, theirs: CanonicalRow): string {
  const at = ours.findIndex((value, index) => value !== theirs[index]);
  const row = table.keyLength === 0 ? "" : ` where ${rowText(table, ours)}`;
  return `${table.columns[at]?.name} is ${short(ours[at] ?? null)} on main-db and ${short(theirs[at] ?? null)} on the replica${row}`;
}

function short(value: string | null): string {
  if (value === null) return "NULL";
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
}
