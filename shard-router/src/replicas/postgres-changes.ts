import { DatabaseError } from "pg";
import { postgresTableName } from "../dialects/postgres.ts";
import { addColumnTexts, changeTypeText, moveTexts, renameColumnTexts, replaceColumnTexts } from "../dialects/postgres-alter.ts";
import { holds, replicaType } from "../dialects/postgres-types.ts";
import { quote } from "../dialects/sql.ts";
import { KeyRefusedError } from "../key-refused.ts";
import type { Advance, TableChange } from "../replica.ts";
import { addsKey, pendingSteps, type SchemaStep } from "../schema-change.ts";
import { advanceQuery, checkAdvanced, ensureSchema, SCHEMA_CHANGE_LOCK } from "./postgres-progress.ts";
import { RememberedRows } from "./postgres-remembered.ts";
import type { PostgresSession } from "./postgres-session.ts";
import { type FoundTable, findTable, preparePostgresTable, sameNames } from "./postgres-tables.ts";

type Alter = Extract<TableChange, { kind: "alter" }>;
type Step<Kind extends SchemaStep["kind"]> = Extract<SchemaStep, { kind: Kind }>;

/** To be called in a transaction: PostgreSQL's DDL is part of it. */
export async function changePostgresTables(
  session: PostgresSession,
  changes: readonly TableChange[],
  advance: Advance,
): Promise<void> {
  const [advanced] = await session.run([advanceQuery(advance), { text: "SET LOCAL statement_timeout = 0" }]);
  checkAdvanced(advanced, advance);
  await session.run([SCHEMA_CHANGE_LOCK]);
  const rows = new RememberedRows(session, advance.partition);
  for (const change of changes) await changeTable(session, rows, change);
}

async function changeTable(session: PostgresSession, rows: RememberedRows, change: TableChange): Promise<void> {
  switch (change.kind) {
    case "create":
      await rows.add(change);
      await preparePostgresTable(session, change.schema, change.mayCreate, change.named);
      return;
    case "alter":
      await rows.change(change.from, change);
      await moveTable(session, change);
      await alterTable(session, change);
      await preparePostgresTable(session, change.schema, false, change.named);
      return;
    case "move":
      await rows.change(change.from, { ...change.from, named: change.named });
      return moveTable(session, change);
    case "await":
      return rows.await(change.from, change.awaiting);
    case "drop":
      await rows.remove(change.from);
      await session.run([{ text: `DROP TABLE IF EXISTS ${postgresTableName(change.from.named)}` }]);
      return;
    case "release":
      await rows.remove(change.from);
      if ((await findTable(session, change.from.named)) !== null) throw change.otherwise;
  }
}

/** Somebody may have given it its new name already. */
async function moveTable(session: PostgresSession, { from, named }: Pick<Alter, "from" | "named">): Promise<void> {
  const texts = moveTexts(from.named, named);
  if (texts.length === 0 || (await findTable(session, from.named)) === null) return;
  await ensureSchema(session, named.schema, quote(named.schema));
  await ddl(session, texts);
}

/** One after the other: what was not done because of an error before it would say nothing. */
async function ddl(session: PostgresSession, texts: readonly string[]): Promise<void> {
  for (const text of texts) await session.run([{ text, patient: true }]);
}

async function alterTable(session: PostgresSession, change: Alter): Promise<void> {
  const { named, steps } = change;
  const sqlName = postgresTableName(named);
  if (change.empties) await ddl(session, [`DELETE FROM ${sqlName}`]);
  let found = await findTable(session, named);
  const names = found?.columns.map(({ name }) => name) ?? [];
  for (const step of pendingSteps(steps, names)) {
    if (found === null) return; // `prepare` says it
    await takeStep(session, { change, sqlName, found }, step);
    found = await findTable(session, named);
  }
  if (steps.some(({ kind }) => kind === "add-key" || kind === "change-type")) await ensureKey(session, change);
}

interface Altered {
  readonly change: Alter;
  readonly sqlName: string;
  readonly found: FoundTable;
}

async function takeStep(session: PostgresSession, altered: Altered, step: SchemaStep): Promise<void> {
  const { sqlName, found } = altered;
  const alter = `ALTER TABLE ${sqlName}`;
  switch (step.kind) {
    case "drop-key": {
      const { name, columns } = primaryKeyOf(found);
      if (name !== null && sameNames(columns, step.key)) await ddl(session, [`${alter} DROP CONSTRAINT ${quote(name)}`]);
      return;
    }
    case "drop-column":
      return ddl(session, [`${alter} DROP COLUMN ${quote(step.name)}`]);
    case "rename-columns":
      return ddl(session, renameColumnTexts(sqlName, step.renames));
    case "change-type":
      return changeType(session, altered, step);
    case "add-column": {
      const notNull = !step.column.nullable && (step.existing !== null || (await isEmpty(session, sqlName)));
      return ddl(session, addColumnTexts(sqlName, step.column, step.existing, notNull));
    }
    case "set-nullable":
      return ddl(session, [`${alter} ALTER COLUMN ${quote(step.column.name)} DROP NOT NULL`]);
    case "set-not-null": {
      const name = quote(step.column.name);
      if (await isEmpty(session, `${sqlName} WHERE ${name} IS NULL`))
        await ddl(session, [`${alter} ALTER COLUMN ${name} SET NOT NULL`]);
      return;
    }
    case "add-key":
      return; // ensureKey
  }
}

const primaryKeyOf = ({ columns }: FoundTable): { readonly name: string | null; readonly columns: readonly string[] } => {
  const key = columns.filter(({ primaryKey }) => primaryKey !== null);
  return { name: key[0]?.primaryKey ?? null, columns: key.map(({ name }) => name) };
};

/** Cannot be cast, or a value cannot. */
const UNCASTABLE = /^(?:22|42804$|42846$)/;

/** Somebody's own wider column stays what it is. */
async function changeType(
  session: PostgresSession,
  { change, sqlName, found }: Altered,
  step: Step<"change-type">,
): Promise<void> {
  const column = found.columns.find(({ name }) => name === step.to.name);
  if (column === undefined || column.type === replicaType(step.to)) return;
  if (column.type !== replicaType(step.from) && holds(step.to, column.type)) return;
  await session.run([{ text: "SAVEPOINT cascade_type" }]);
  try {
    await ddl(session, [changeTypeText(sqlName, step.to)]);
  } catch (error) {
    const uncastable = error instanceof DatabaseError && UNCASTABLE.test(error.code ?? "");
    if (!uncastable || !change.rewritten) throw error;
    await ddl(session, ["ROLLBACK TO SAVEPOINT cascade_type", ...replaceColumnTexts(sqlName, step.to)]);
  }
}

async function isEmpty(session: PostgresSession, from: string): Promise<boolean> {
  const [answer] = await session.run([{ text: `SELECT 1 FROM ${from} LIMIT 1` }]);
  return answer?.rows.length === 0;
}

/** A row is there twice (unique_violation), or a column of its key is NULL (not_null_violation). */
const isKeyError = (error: unknown): boolean => error instanceof DatabaseError && /^2350[25]$/.test(error.code ?? "");

/** Where an index of somebody's own serves already, none is made. */
async function ensureKey(session: PostgresSession, { named, schema, steps }: Alter): Promise<void> {
  const { key } = schema;
  const found = await findTable(session, named);
  if (found === null || key.length === 0 || found.uniqueKeys.some((columns) => sameNames(columns, key))) return;
  const kind = primaryKeyOf(found).name === null ? "PRIMARY KEY" : "UNIQUE";
  const sqlName = postgresTableName(named);
  try {
    await ddl(session, [`ALTER TABLE ${sqlName} ADD ${kind} (${key.map(quote).join(", ")})`]);
  } catch (error) {
    throw isKeyError(error) && addsKey(steps) ? new KeyRefusedError(schema, sqlName) : error;
  }
}
