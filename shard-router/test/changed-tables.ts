import { CascadeError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import type { Replica } from "../src/replica.ts";
import { applier, event } from "./replica-labs.ts";

/** What the tests of schema changes share. */

/** The columns with these names, in this order, each as it is or otherwise. */
export const columnsOf = (
  schema: TableSchema,
  wanted: Readonly<Record<string, Partial<ColumnSchema>>>,
): readonly ColumnSchema[] =>
  Object.entries(wanted).map(([name, change]) => {
    const column = schema.columns.find((found) => found.name === name);
    if (column === undefined) throw new Error(`no column ${name}`);
    return { ...column, ...change };
  });

export async function failure(act: Promise<unknown>): Promise<CascadeError> {
  const error: unknown = await act.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof CascadeError) return error;
  throw error ?? new Error("nothing was refused");
}

export const put = async (replica: Replica, schema: TableSchema, ...rows: readonly Readonly<Record<string, unknown>>[]) => {
  const { apply } = await applier(replica, schema);
  await apply(rows.map((row) => event("c", null, row as never)));
};
