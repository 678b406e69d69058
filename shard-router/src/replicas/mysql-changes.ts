import { type CascadeError, FencedError } from "@cascade/shared/errors";
import { formatLsn } from "@cascade/shared/lsn";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import { type MysqlDialect, quoteMysql } from "../dialects/mysql.ts";
import { type MysqlChange, mysqlChange } from "../dialects/mysql-changes.ts";
import { flatTableName } from "../dialects/table-names.ts";
import { KeyRefusedError } from "../key-refused.ts";
import type { Advance, RememberedTable, TableChange } from "../replica.ts";
import { planChange } from "../schema-change.ts";
import { unknownValues } from "./change-refused.ts";
import { findMysqlTable } from "./mysql-catalog.ts";
import { changeError, isKeyError, isUnfitValue } from "./mysql-change-errors.ts";
import { findChangedTable } from "./mysql-changed-table.ts";
import { advanceProgress, checkProgress } from "./mysql-progress.ts";
import {
  begin,
  claimedName,
  disown,
  forget,
  isAsRemembered,
  locked,
  markedComment,
  newMark,
  type Pending,
  remember,
  rememberNew,
  settle,
} from "./mysql-remembered.ts";
import type { MysqlSession } from "./mysql-session.ts";
import { claimMysqlName, prepareMysqlTable, takenName } from "./mysql-tables.ts";
import { beingChanged } from "./table-mismatch.ts";

type Alter = Extract<TableChange, { kind: "alter" }>;

export interface MysqlChanging {
  /** Of its own: a large table's change takes long, and the others go on meanwhile. */
  readonly session: MysqlSession;
  readonly dialect: MysqlDialect;
  readonly advance: Advance;
}

const LOCK_WAIT_S = 10;

/**
 * DDL commits, so a change is written down before it is made, and its one ALTER TABLE marks the table, which then gets its name: whatever
 * a crash leaves is ended by `readRemembered`, or by the next change.
 */
export async function changeMysqlTables(changing: MysqlChanging, changes: readonly TableChange[]): Promise<void> {
  const { session, advance } = changing;
  const oids = changes.map((change) => (change.kind === "create" ? change.schema.oid : change.from.oid));
  const done = await locked(
    session,
    [...new Set(oids)].sort((a, b) => a - b),
    LOCK_WAIT_S,
    async () => {
      await checkProgress(session, advance);
      for (const oid of oids) await settle(session, oid);
      for (const change of changes) await changeTable(changing, change);
      await session.transaction(() => advanceProgress(session, advance));
      return true;
    },
  );
  if (done === null) throw beingChanged(advance.partition.topic);
}

async function changeTable(changing: MysqlChanging, change: TableChange): Promise<void> {
  const { session } = changing;
  switch (change.kind) {
    case "create":
      return createTable(changing, change);
    case "alter":
      return alterTable(changing, change);
    case "move":
      return alterTable(changing, { ...change.from, ...change, kind: "alter", steps: [], rewritten: false, empties: false });
    case "await": {
      const text =
        "UPDATE cascade_tables SET awaiting = ?, revision = revision + 1 WHERE oid = ? AND revision = ? AND pending IS NULL";
      const { oid, revision, named } = change.from;
      if ((await session.change(text, [change.awaiting, oid, revision])) !== 1) throw stale(changing, named);
      return;
    }
    case "drop":
      if (!(await begin(session, change.from, { kind: "drop" }))) throw stale(changing, change.from.named);
      await ddl(session, [`DROP TABLE IF EXISTS ${quoteMysql(flatTableName(change.from.named))}`]);
      return removeRow(changing, change.from);
    case "release":
      if ((await findMysqlTable(session, flatTableName(change.from.named))) !== null) throw change.otherwise;
      return removeRow(changing, change.from);
  }
}

async function createTable(changing: MysqlChanging, change: Extract<TableChange, { kind: "create" }>): Promise<void> {
  const { session, dialect } = changing;
  const { schema, named, mayCreate } = change;
  dialect.columnsOf(schema); // says what no table can be made of
  await claimMysqlName(session, schema, named);
  if (!(await rememberNew(session, change))) throw stale(changing, named);
  try {
    await prepareMysqlTable(session, dialect, schema, mayCreate, named);
  } catch (error) {
    await disown(session, schema.oid).catch(() => {}); // else whoever asks next does
    throw error;
  }
  await forget(session, schema.oid);
}

const stale = ({ advance: { partition } }: MysqlChanging, named: TableName): FencedError =>
  new FencedError(partition.topic, partition.partition, `the replica's table of ${formatTableName(named)}`);

async function removeRow(changing: MysqlChanging, { oid, revision, named }: RememberedTable): Promise<void> {
  const text = "DELETE FROM cascade_tables WHERE oid = ? AND revision = ?";
  if ((await changing.session.change(text, [oid, revision])) !== 1) throw stale(changing, named);
}

async function alterTable(changing: MysqlChanging, change: Alter): Promise<void> {
  const { session, dialect } = changing;
  const { from, schema, named, steps } = change;
  if (!(await isAsRemembered(session, from))) throw stale(changing, from.named);
  const mark = newMark();
  const plan = await planOf(changing, change, { mark, unfit: false });
  await checkName(changing, change);
  const isWhole = steps.length === planChange(from.schema, schema).length;
  const state = { schema, commitLsn: formatLsn(change.at.commitLsn), ordinal: change.at.ordinal, named };
  const pending: Pending = { kind: "alter", mark, ...state, last: plan?.last ?? [], isWhole };
  if (!(await begin(session, from, pending))) throw stale(changing, from.named);
  try {
    await carryOut(changing, change, { plan, mark });
    await prepareMysqlTable(session, dialect, schema, false, named);
  } catch (error) {
    await settle(session, from.oid).catch(() => {}); // else whoever asks next does
    throw error;
  }
  if (!(await remember(session, from, pending))) throw stale(changing, from.named);
}

interface Planning {
  readonly mark: string;
  readonly unfit: boolean;
}

/** null when the table is not there: `prepare` says it. */
async function planOf(
  { session, dialect }: MysqlChanging,
  change: Alter,
  { mark, unfit }: Planning,
): Promise<MysqlChange | null> {
  const { from, schema, named, steps } = change;
  const about = { from: from.schema, steps };
  const find = (name: TableName) => findChangedTable(session, flatTableName(name), about);
  // Somebody may have given it its new name already.
  const table = (await find(from.named)) ?? (await find(named));
  if (table === null) return null;
  const isCalledSo = claimedName(session, from.named) === claimedName(session, named);
  const plan = mysqlChange(table, {
    ...change,
    dialect,
    from: from.schema,
    to: schema,
    unfit,
    sqlName: isCalledSo ? table.sqlName : quoteMysql(flatTableName(named)),
    comment: markedComment(table.comment, mark),
  });
  if (plan.unfitKey) throw new KeyRefusedError(schema, table.sqlName);
  if (plan.unknown.length > 0) throw unknownValues(schema, table.sqlName, plan.unknown);
  return plan;
}

async function carryOut(
  changing: MysqlChanging,
  change: Alter,
  { plan, mark }: { readonly plan: MysqlChange | null; readonly mark: string },
): Promise<void> {
  if (plan === null || plan.alter === null) return;
  const run = ({ first, alter, rename, last }: MysqlChange) => ddl(changing.session, [...first, alter, rename, ...last]);
  try {
    await run(plan);
  } catch (error) {
    const other = change.rewritten && isUnfitValue(error) ? await planOf(changing, change, { mark, unfit: true }) : null;
    if (other === null) throw refusalOf(error, change);
    await run(other).catch((again: unknown) => {
      throw refusalOf(again, change);
    });
  }
}

const refusalOf = (error: unknown, { schema, steps, named }: Alter): CascadeError =>
  isKeyError(error, steps) ? new KeyRefusedError(schema, quoteMysql(flatTableName(named))) : changeError(error, schema);

async function ddl(session: MysqlSession, texts: readonly (string | null)[]): Promise<void> {
  for (const text of texts) if (text !== null) await session.query(text);
}

/** The name must be free: RENAME TABLE would say no more than that it is not. */
async function checkName({ session }: MysqlChanging, { from, schema, named }: Alter): Promise<void> {
  const [oldName, newName] = [claimedName(session, from.named), claimedName(session, named)];
  if (oldName === newName) return;
  const [owner] = await session.query(
    "SELECT source_schema, source_table, oid IS NULL AS is_old FROM cascade_tables WHERE name = ?",
    [newName],
  );
  const isThere = (await findMysqlTable(session, flatTableName(named))) !== null;
  const moves = (await findMysqlTable(session, flatTableName(from.named))) !== null;
  if (owner === undefined && !(isThere && moves)) return;
  if (Number(owner?.["is_old"]) === 1 && !isThere) {
    // A name claimed for a table that was never made, or is gone.
    await session.query("DELETE FROM cascade_tables WHERE name = ? AND oid IS NULL", [newName]);
    return;
  }
  const other = { schema: String(owner?.["source_schema"]), table: String(owner?.["source_table"]) };
  throw takenName(schema, named, owner === undefined ? "another table's there" : `the name of ${formatTableName(other)} there`);
}
