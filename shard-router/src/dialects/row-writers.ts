import type { WireRow, WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { ReplicaTable, SqlValue, Statement } from "../dialect.ts";
import type { ShapeColumn } from "../row-shape.ts";
import type { Run } from "./sql.ts";

/** For dialects whose statements are run once per row, with the row's values as parameters. */

/** A row's values for some columns, as they are bound. Runs for every row. */
export type Binder = (row: WireRow) => SqlValue[];

/** Makes a wire value one that is bound; null for a column whose wire values are bound as they are. */
export type Encoder = ((value: WireValue) => SqlValue) | null;

type EncoderOf = (source: ColumnSchema, type: string) => Encoder;

/** `encoderOf` is asked once per column, with the type that the replica's column has. */
export function binderOver(table: ReplicaTable, columns: readonly ShapeColumn[], encoderOf: EncoderOf): Binder {
  const names = columns.map((column) => column.name);
  const encoders = encodersOf(table, names, encoderOf);
  return (row) => {
    const values: SqlValue[] = new Array(names.length);
    for (let index = 0; index < names.length; index++) {
      const value = row[names[index] as string] as WireValue;
      const encode = encoders[index] as Encoder;
      values[index] = encode === null ? value : encode(value);
    }
    return values;
  };
}

/** By itself: a binder lives as long as its table is known, and would keep these maps. */
function encodersOf(table: ReplicaTable, names: readonly string[], encoderOf: EncoderOf): readonly Encoder[] {
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  const sources = new Map(table.source.columns.map((source) => [source.name, source]));
  return names.map((name) => {
    const source = sources.get(name);
    const type = types.get(name);
    if (source === undefined || type === undefined) throw new TypeError(`${formatTableName(table.source)} has no column ${name}`);
    return encoderOf(source, type);
  });
}

export function rowsWriter(text: string, bind: Binder, presence?: "must exist"): (run: Run) => Statement {
  return (run) => {
    const { rows } = run as Exclude<Run, { kind: "truncate" }>;
    const parameterSets = rows.map(bind);
    return presence === undefined ? { text, parameterSets } : { text, parameterSets, mustAffect: rows.length };
  };
}

/** The new values, then the old key's. */
export function moveWriter(text: string, bind: Binder, bindKey: Binder): (run: Run) => Statement {
  return (run) => {
    const { from, rows } = run as Extract<Run, { kind: "move" }>;
    const parameterSets = rows.map((row, at) => [...bind(row), ...bindKey(from[at] as WireRow)]);
    return { text, parameterSets, mustAffect: rows.length };
  };
}
