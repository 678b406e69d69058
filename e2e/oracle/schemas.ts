import { quoteTableName } from "@cascade/shared/topic";
import fc from "fast-check";
import { SPECIAL } from "./literals.ts";
import { columnName, identifier, type PlacedName, placedName, tableName, unlike } from "./names.ts";
import { ALIKE_TYPES, COLUMN_TYPES, type ColumnType, LONG_TYPES, ORDERED_TYPES, RESPELT_TYPES } from "./types.ts";

export interface OracleColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly notNull: boolean;
  /** Few, so that rows meet. */
  readonly palette: readonly string[];
  /** Values of a few kB, stored out of line: an update that leaves them alone does not send them. */
  readonly long: boolean;
  readonly made: "by hand" | "generated" | "identity";
}

export interface OracleTable {
  readonly name: PlacedName;
  /** In the table's order. Those in `key` are ordered and not null. */
  readonly columns: readonly OracleColumn[];
  /** Positions of the key's columns in the order of its index; empty for a table without a key. */
  readonly key: readonly number[];
  /** `index`: a unique index that is not the primary key. A table without a key is FULL. */
  readonly identity: "default" | "full" | "index";
  /** Beside an identity index: a primary key on another column. */
  readonly primaryKey: number | null;
  readonly unique: { readonly column: number; readonly deferrable: boolean } | null;
  /** A column was dropped before the first row: attnums have a gap. */
  readonly dropped: boolean;
}

function palette({ literals, alike }: ColumnType): fc.Arbitrary<readonly string[]> {
  const any = fc.array(literals, { minLength: 1, maxLength: 4 });
  return alike === undefined ? any : fc.oneof(any, { weight: 2, arbitrary: fc.shuffledSubarray([...alike], { minLength: 2 }) });
}

const columnOf = (types: readonly ColumnType[], more: Partial<OracleColumn> = {}): fc.Arbitrary<OracleColumn> =>
  fc.oneof(
    { withCrossShrink: true },
    ...types.map((type) =>
      fc
        .record({ name: columnName, palette: palette(type), notNull: fc.constantFrom(false, false, false, true) })
        .map((found): OracleColumn => ({ type, long: false, made: "by hand", ...found, ...more })),
    ),
  );

const keyColumn = fc
  .oneof({ withCrossShrink: true }, columnOf(ORDERED_TYPES, { notNull: true }), columnOf(ALIKE_TYPES, { notNull: true }))
  .map(findable);

/** What wal2json 2.5 loses of a value that rows are found by nobody can look up: cdc ends there, and says so. */
function findable(column: OracleColumn): OracleColumn {
  return { ...column, palette: column.palette.map((text) => (SPECIAL.includes(text) ? "0" : text)) };
}

const longColumn = columnOf(LONG_TYPES, { long: true });
const madeColumn = (made: OracleColumn["made"], types: readonly string[]): fc.Arbitrary<OracleColumn> =>
  fc.record({ name: columnName, sql: fc.constantFrom(...types) }).map(({ name, sql }) => {
    const identity = made === "identity";
    return { name, type: typeNamed(sql), palette: identity ? ["1", "2", "3"] : [], notNull: identity, long: false, made };
  });
const generatedColumn = madeColumn("generated", ["boolean", "integer", "text"]);
const identityColumn = madeColumn("identity", ["smallint", "integer", "bigint"]);

function typeNamed(sql: string): ColumnType {
  const type = COLUMN_TYPES.find((known) => known.sql === sql);
  if (type === undefined) throw new TypeError(`no column type ${sql}`);
  return type;
}

const otherColumn = fc.oneof(
  { weight: 12, arbitrary: columnOf(COLUMN_TYPES) },
  { weight: 5, arbitrary: longColumn },
  { weight: 1, arbitrary: generatedColumn },
  { weight: 1, arbitrary: identityColumn },
);

const drawnTable = fc.record({
  name: placedName,
  inKey: fc.oneof(
    { withCrossShrink: true },
    {
      weight: 4,
      arbitrary: fc.tuple(fc.oneof({ weight: 6, arbitrary: keyColumn }, { weight: 1, arbitrary: identityColumn })),
    },
    { weight: 2, arbitrary: fc.array(keyColumn, { minLength: 2, maxLength: 3 }) },
    { weight: 2, arbitrary: fc.constant<OracleColumn[]>([]) },
  ),
  // One at least that is written to.
  one: fc.oneof({ weight: 3, arbitrary: columnOf(COLUMN_TYPES) }, { weight: 1, arbitrary: longColumn }),
  others: fc.array(otherColumn, { maxLength: 5, size: "max" }),
  identity: fc.constantFrom("default" as const, "default" as const, "full" as const, "index" as const),
  keyFirst: fc.boolean(),
  keyReversed: fc.boolean(),
  /** Whether the unique constraint is deferrable; null for none. */
  unique: fc.constantFrom(null, null, false, true),
  dropped: fc.constantFrom(false, false, false, true),
  oddNames: fc.boolean(),
});

/** Rows that move from key to key without their long value, where equal keys look different: coalescing has its hardest time here. */
const movingTable = fc.record({
  name: placedName,
  inKey: fc.tuple(columnOf(RESPELT_TYPES, { notNull: true }).map(findable)),
  one: longColumn,
  others: fc.array(otherColumn, { maxLength: 1 }),
  identity: fc.constant("default" as const),
  keyFirst: fc.boolean(),
  keyReversed: fc.constant(false),
  unique: fc.constant(null),
  dropped: fc.constant(false),
  oddNames: fc.constant(false),
});

export const oracleTable: fc.Arbitrary<OracleTable> = fc
  .oneof({ withCrossShrink: true }, { weight: 3, arbitrary: drawnTable }, { weight: 1, arbitrary: movingTable })
  .map(tableOf);

type Drawn = typeof drawnTable extends fc.Arbitrary<infer T> ? T : never;

function tableOf(drawn: Drawn): OracleTable {
  const { name, inKey, keyFirst, keyReversed, dropped } = drawn;
  const drawnOthers = [drawn.one, ...drawn.others];
  const others = inKey.length === 0 ? drawnOthers.map(findable) : drawnOthers;
  const given = keyFirst ? [...inKey, ...others] : [...others, ...inKey];
  // Some engines refuse some names, and the table with them: half of the tables are there for their values.
  const names = drawn.oddNames ? unlike(given.map((column) => column.name)) : given.map((_, at) => `c${at}`);
  const columns = given.map((column, at): OracleColumn => ({ ...column, name: names[at] ?? "" }));
  const offset = keyFirst ? 0 : others.length;
  const key = inKey.map((_, at) => at + offset);
  if (keyReversed) key.reverse();
  const usable = (column: OracleColumn, at: number): boolean =>
    column.type.ordered && !column.long && column.made === "by hand" && !key.includes(at);
  const unique = drawn.unique === null ? -1 : columns.findIndex((column, at) => usable(column, at) && !column.notNull);
  const identity = key.length === 0 ? "full" : drawn.identity;
  const primaryKey = identity === "index" ? columns.findIndex((column, at) => usable(column, at) && column.notNull) : -1;
  return {
    name,
    columns,
    key,
    identity,
    primaryKey: primaryKey === -1 ? null : primaryKey,
    unique: unique === -1 ? null : { column: unique, deferrable: drawn.unique === true },
    dropped,
  };
}

/** The SQL that makes the table. */
export function createTable(table: OracleTable, at: number, history: number): readonly string[] {
  const name = quoteTableName(tableName(table.name, history));
  const names = (positions: readonly number[]): string =>
    positions.map((at) => identifier(table.columns[at]?.name ?? "")).join(", ");
  const lines = table.columns.map((column) => `  ${identifier(column.name)} ${column.type.sql}${constraintOf(column, table)}`);
  if (table.dropped) lines.unshift("  dropped text");
  const primary = table.identity === "index" ? table.primaryKey : null;
  if (table.key.length > 0 && table.identity !== "index") lines.push(`  PRIMARY KEY (${names(table.key)})`);
  if (primary !== null) lines.push(`  PRIMARY KEY (${names([primary])})`);
  if (table.unique !== null)
    lines.push(`  UNIQUE (${names([table.unique.column])})${table.unique.deferrable ? " DEFERRABLE INITIALLY DEFERRED" : ""}`);
  const statements = [`CREATE TABLE ${name} (\n${lines.join(",\n")}\n)`];
  if (table.identity === "full") statements.push(`ALTER TABLE ${name} REPLICA IDENTITY FULL`);
  if (table.identity === "index") {
    const index = identifier(`oracle_identity_${history}_${at}`);
    statements.push(
      `CREATE UNIQUE INDEX ${index} ON ${name} (${names(table.key)})`,
      `ALTER TABLE ${name} REPLICA IDENTITY USING INDEX ${index}`,
    );
  }
  for (const column of table.columns)
    if (column.long && !/^(?:integer|numeric)/.test(column.type.sql))
      statements.push(`ALTER TABLE ${name} ALTER ${identifier(column.name)} SET STORAGE EXTERNAL`);
  if (table.dropped) statements.push(`ALTER TABLE ${name} DROP dropped`);
  return statements;
}

function constraintOf(column: OracleColumn, table: OracleTable): string {
  const notNull = column.notNull ? " NOT NULL" : "";
  switch (column.made) {
    case "by hand":
      return notNull;
    case "identity":
      return " GENERATED BY DEFAULT AS IDENTITY";
    case "generated":
      return ` GENERATED ALWAYS AS (${expressionOf(column, table)}) STORED`;
  }
}

/** Of the first column that is not generated itself. */
function expressionOf(column: OracleColumn, { columns }: OracleTable): string {
  const from = columns.find(({ made }) => made !== "generated");
  if (from === undefined) return column.type.sql === "text" ? "'g'" : column.type.sql === "boolean" ? "true" : "1";
  const name = identifier(from.name);
  if (column.type.sql === "boolean") return `${name} IS NULL`;
  if (column.type.sql === "integer") return `num_nulls(${name}) - 1`;
  return from.type.sql === "text" ? `lower(${name})` : `CASE WHEN ${name} IS NULL THEN 'é' END`;
}
