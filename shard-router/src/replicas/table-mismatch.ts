import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";

/** Why an existing table of the replica cannot take the source's rows, and the SQL that mends it. */
export interface Misfit {
  readonly problem: string;
  readonly cure: string;
  /** The cure adds the column, and the rows that are there get no value from main-db. */
  readonly addsColumn?: true;
}

const MOST_RENAMES = 3;

/** `sqlDefault`: what the older rows got on main-db, as far as its schema tells. `unknown`: the replica's columns that main-db lacks. */
export function missingColumn(
  alter: string,
  column: { readonly name: string; readonly type: string; readonly sqlDefault: string | null },
  unknown: readonly string[],
): Misfit {
  const { name, type, sqlDefault } = column;
  const add = `${alter} ADD COLUMN ${name} ${type}${sqlDefault === null ? "" : ` DEFAULT ${sqlDefault}`}`;
  const rename = unknown
    .slice(0, MOST_RENAMES)
    .map((old) => `${alter} RENAME COLUMN ${old} TO ${name}`)
    .join(" or ");
  const cure = rename === "" ? add : `${add}, or when main-db renamed it: ${rename}`;
  return { problem: `column ${name} is missing`, cure, addsColumn: true };
}

/** The literal of a default that is a constant: its cast may name a type that the replica lacks. */
export function constantDefault(expression: string | null): string | null {
  return /^(-?\d+(?:\.\d+)?|true|false|'(?:[^']|'')*')(?:::[^']+)?$/.exec(expression ?? "")?.[1] ?? null;
}

export function tableMismatch(schema: TableSchema, sqlName: string, misfits: readonly Misfit[]): CascadeError {
  return new CascadeError({
    code: "REPLICA_TABLE_MISMATCH",
    verdict: "stop-table",
    message: `the replica's table ${sqlName} does not fit ${formatTableName(schema)}: ${misfits.map(({ problem }) => problem).join("; ")}`,
    advice: `${misfits.some(({ addsColumn }) => addsColumn) ? OLDER_ROWS : ""}run on the replica, and the table goes on by itself: ${misfits.map(({ cure }) => cure).join("; ")}`,
  });
}

const OLDER_ROWS =
  "what main-db gave its older rows when a column was added or computed does not arrive: compare them, and fill the column; ";

/** A table that was applied to is gone: made anew it would lack all the rows it had. */
export function tableLost(schema: TableSchema, sqlName: string, progressTable: string): CascadeError {
  return new CascadeError({
    code: "REPLICA_TABLE_LOST",
    verdict: "stop-table",
    message: `the replica's table ${sqlName} is gone, and the rows that ${formatTableName(schema)} had before are not sent again by themselves`,
    advice: `restore it, or ${fillAnew(progressTable)}`,
  });
}

/** On engines whose DDL is no part of a transaction. */
export const beingChanged = (table: string): CascadeError =>
  new CascadeError({
    code: "REPLICA_LOCKED",
    verdict: "stop-table",
    message: `another router changes the replica's table of ${table}`,
    advice: "nothing to do: the table goes on when that is done",
  });

/** How a table is filled again while there are no snapshots: its topic keeps everything, unless an operator has given it an end. */
export const fillAnew = (progressTable: string): string =>
  `empty or drop the table and delete its topic's row from ${progressTable}: it is then filled from the topic's beginning, as far as Kafka keeps it`;

/** Fewer rows were there than the statement had changes for: what the missing rows' other columns hold, nobody knows. */
export function missingRow(topic: string, expected: number, affected: number): CascadeError {
  return new CascadeError({
    code: "MISSING_ROW",
    verdict: "stop-table",
    message: `the replica lacks ${expected - affected} of ${expected} rows of ${topic} that changed in part`,
    advice: `on a shard a row has moved in without its large values: give main-db's table REPLICA IDENTITY FULL, and copy it for this replica (\`cdc snapshot\`); else something else changed the replica's table: take the right to write from everyone else, and ${fillAnew("the progress table")}`,
  });
}

interface TakenName {
  /** As the engine's SQL has it. */
  readonly sqlName: string;
  /** What the table would stand in. */
  readonly place: string;
  /** Who has the name. */
  readonly by: string;
  /** Where the table could go instead. */
  readonly another: string;
}

/** On engines without schemas, or that fold case: two tables of main-db would be one. */
export function nameTaken(source: TableName, { sqlName, place, by, another }: TakenName): CascadeError {
  const name = formatTableName(source);
  return new CascadeError({
    code: "REPLICA_NAME_TAKEN",
    verdict: "stop-table",
    message: `table ${name} would be ${sqlName} in ${place}, which is ${by}`,
    advice: `exclude one of them (ROUTER_TABLES=...,!${name}), or send it to ${another} of its own; if the other one is gone from the source, drop its table and delete its row from cascade_tables`,
  });
}
