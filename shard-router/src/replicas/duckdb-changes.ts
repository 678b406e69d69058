import type { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import { duckdbChange } from "../dialects/duckdb-changes.ts";
import { foldAscii } from "../dialects/table-names.ts";
import { KeyRefusedError } from "../key-refused.ts";
import type { Advance, TableChange } from "../replica.ts";
import { addsKey } from "../schema-change.ts";
import { changeRefused, unknownValues } from "./change-refused.ts";
import { type FoundChangedTable, findChangedTable } from "./duckdb-changed-table.ts";
import { duckdbError, isConstraintError, isUnfitValue } from "./duckdb-errors.ts";
import { advanceProgress } from "./duckdb-progress.ts";
import { RememberedRows } from "./duckdb-remembered.ts";
import type { DuckdbSession } from "./duckdb-session.ts";
import { findTable, prepareDuckdbTable, sqlNameOf, takenName } from "./duckdb-tables.ts";
import { fillAnew } from "./table-mismatch.ts";

type Alter = Extract<TableChange, { kind: "alter" }>;

/** In one transaction: DuckDB's DDL is part of it. */
export async function changeDuckdbTables(
  session: DuckdbSession,
  changes: readonly TableChange[],
  advance: Advance,
): Promise<void> {
  const attempt = (unfit: boolean) =>
    session.transaction(async () => {
      await advanceProgress(session, advance);
      const rows = new RememberedRows(session, advance.partition);
      for (const change of changes) await changeTable({ session, rows, unfit }, change);
    });
  try {
    await attempt(false);
  } catch (error) {
    const isRewritten = changes.some((change) => change.kind === "alter" && change.rewritten);
    if (!(error instanceof UnfitValues && isRewritten)) throw error instanceof UnfitValues ? error.refusal : error;
    await attempt(true).catch((again: unknown) => {
      throw again instanceof UnfitValues ? again.refusal : again;
    });
  }
}

/** Values that could be converted do not fit; DuckDB has given the transaction up. */
class UnfitValues extends Error {
  readonly refusal: CascadeError;

  constructor(refusal: CascadeError) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

interface Changing {
  readonly session: DuckdbSession;
  readonly rows: RememberedRows;
  readonly unfit: boolean;
}

async function changeTable(changing: Changing, change: TableChange): Promise<void> {
  const { session, rows } = changing;
  switch (change.kind) {
    case "create":
      await prepareDuckdbTable(session, change.schema, change.mayCreate, change.named);
      return rows.add(change);
    case "alter":
      await rows.check(change.from);
      await alterTable(changing, change);
      await rows.change(change.from, change);
      await prepareDuckdbTable(session, change.schema, false, change.named);
      return;
    case "move":
      await rows.check(change.from);
      await alterTable(changing, { ...change.from, ...change, kind: "alter", steps: [], rewritten: false, empties: false });
      return rows.change(change.from, { ...change.from, named: change.named });
    case "await":
      return rows.await(change.from, change.awaiting);
    case "drop":
      await rows.remove(change.from);
      return session.ddl(`DROP TABLE IF EXISTS ${await sqlNameOf(session, change.from.named)}`);
    case "release":
      await rows.remove(change.from);
      if ((await findTable(session, change.from.named, await whereIs(session, change.from.named))) !== null)
        throw change.otherwise;
  }
}

const whereIs = async (session: DuckdbSession, named: TableName) => ({ sqlName: await sqlNameOf(session, named), key: [] });

async function alterTable({ session, unfit }: Changing, change: Alter): Promise<void> {
  const { from, schema, named, steps } = change;
  const sqlName = await sqlNameOf(session, named);
  const find = async (name: TableName) => findChangedTable(session, name, await sqlNameOf(session, name), steps);
  const old = await find(from.named);
  // Somebody may have given it its new name already.
  const table = old ?? (await find(named));
  if (table === null) return; // `prepare` says it
  if (old !== null && !sameName(from.named, named)) await checkName(session, change);
  const { statements, unknown, lost, keyValues } = duckdbChange(table, {
    ...change,
    from: from.schema,
    to: schema,
    sqlName,
    unfit,
  });
  if (statements.length === 0) return;
  if (addsKey(steps) && unknown.some((name) => schema.key.includes(name))) throw new KeyRefusedError(schema, table.sqlName);
  if (unknown.length > 0) throw unknownValues(schema, table.sqlName, unknown);
  refuseLosses(change, table, lost);
  try {
    if (keyValues !== null) await checkKey(session, schema, table, keyValues);
    for (const text of statements) await session.ddl(text);
  } catch (error) {
    if (!isUnfitValue(error) && !isConstraintError(error)) throw error;
    const { message } = duckdbError(error, "making the table anew");
    const refusal = changeRefused(schema, table.sqlName, message, fillAnew("cascade_progress"));
    throw isUnfitValue(error) ? new UnfitValues(refusal) : refusal;
  }
}

/** Asked, for DuckDB says the same of the primary key and of a unique index of the replica's own. */
async function checkKey(
  session: DuckdbSession,
  schema: TableSchema,
  { sqlName }: FoundChangedTable,
  values: readonly string[],
): Promise<void> {
  const names = values.map((_, at) => `k${at}`);
  const keys = `SELECT ${values.map((value, at) => `${value} AS ${names[at]}`).join(", ")} FROM ${sqlName}`;
  const isRefused = ["count(*) > 1", ...names.map((name) => `${name} IS NULL`)].join(" OR ");
  const rows = await session.rows(`SELECT 1 FROM (${keys}) GROUP BY ${names.join(", ")} HAVING ${isRefused} LIMIT 1`);
  if (rows.length > 0) throw new KeyRefusedError(schema, sqlName);
}

const sameName = (a: TableName, b: TableName): boolean =>
  foldAscii(a.schema) === foldAscii(b.schema) && foldAscii(a.table) === foldAscii(b.table);

/** DuckDB could not read its file again after a crash (1.5): an ALTER in its log finds no functions. */
function refuseLosses({ schema }: Alter, { sqlName, unalterable }: FoundChangedTable, lost: readonly string[]): void {
  if (unalterable.length > 0) {
    const problem = `DuckDB does not safely alter a table in which ${unalterable.join(", ")}`;
    throw changeRefused(schema, sqlName, problem, `make it anew without that, or ${fillAnew("cascade_progress")}`);
  }
  if (lost.length > 0) {
    const problem = `DuckDB makes the table anew for it, and of its own ${lost.join(", ")} would be lost`;
    throw changeRefused(schema, sqlName, problem, "drop that, and make it again afterwards");
  }
}

async function checkName(session: DuckdbSession, { schema, named }: Alter): Promise<void> {
  if ((await findTable(session, named, await whereIs(session, named))) !== null)
    throw takenName(schema, named, "the name of another table");
}
