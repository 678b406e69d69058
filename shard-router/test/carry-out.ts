import type { WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import type { Mutation } from "../src/mutation.ts";

class ConstraintError extends Error {}

/** A replica in memory: what each mutation means, said once more and as simply as can be. */
export function carryOut(table: TableSchema, rows: WireRow[], mutations: readonly Mutation[]): void {
  const comparable = (row: WireRow) =>
    JSON.stringify(
      table.key.map((name) =>
        table.columns.find((column) => column.name === name)?.type === "numeric" ? Number(row[name]) : row[name],
      ),
    );
  const find = (key: WireRow) => rows.findIndex((row) => comparable(row) === comparable(key));
  const existing = (key: WireRow) => {
    const at = find(key);
    if (at < 0) throw new Error("a row that must exist is missing");
    return at;
  };
  for (const mutation of mutations) {
    switch (mutation.kind) {
      case "put": {
        const at = find(mutation.row);
        rows.splice(at < 0 ? rows.length : at, 1, mutation.row);
        break;
      }
      case "patch": {
        const at = existing(mutation.row);
        rows[at] = { ...rows[at], ...mutation.row };
        break;
      }
      case "move": {
        const at = existing(mutation.from);
        const target = find(mutation.row);
        if (target >= 0 && target !== at) throw new ConstraintError("a row moves onto another");
        rows[at] = { ...rows[at], ...mutation.row };
        break;
      }
      case "delete": {
        const at = find(mutation.key);
        if (at >= 0) rows.splice(at, 1);
        break;
      }
      case "truncate":
        rows.length = 0;
        break;
      case "append":
        rows.push(mutation.row);
        break;
      case "remove": {
        const text = comparableRows([mutation.row])[0];
        const at = rows.findIndex((row) => comparableRows([row])[0] === text);
        if (at < 0) throw new Error("a row that must exist is missing");
        rows.splice(at, 1);
      }
    }
  }
}

/** As Replica.apply does: in order, where the merged mutations meet a constraint. */
export function carryOutOr(table: TableSchema, rows: WireRow[], merged: readonly Mutation[], inOrder: readonly Mutation[]): void {
  const before = [...rows];
  try {
    carryOut(table, rows, merged);
  } catch (error) {
    if (!(error instanceof ConstraintError)) throw error;
    rows.splice(0, rows.length, ...before);
    carryOut(table, rows, inOrder);
  }
}
