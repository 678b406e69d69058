import { formatTableName } from "@cascade/shared/topic";
import { mariadbDialect } from "../dialects/mariadb.ts";
import { mysqlDialect } from "../dialects/mysql.ts";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Replica, Work } from "../replica.ts";
import { applyWork } from "./apply-work.ts";
import { checkHeld, heldKeyOf } from "./held-rows.ts";
import { changeMysqlTables } from "./mysql-changes.ts";
import { isConstraintError, mysqlError } from "./mysql-errors.ts";
import { advanceProgress, ensureOwnTables, heldRows, readProgress, readProgressOf, shardRow } from "./mysql-progress.ts";
import { checkUnchanged, readRemembered } from "./mysql-remembered.ts";
import { type MysqlSession, openMysqlSession } from "./mysql-session.ts";
import { prepareMysqlTable } from "./mysql-tables.ts";
import { checkStep, partStore } from "./part-store.ts";
import { missingRow } from "./table-mismatch.ts";

/** A replica in a database of MySQL or MariaDB, whichever answers. Rejects with verdict refuse when the login is wrong. */
export async function openMysqlReplica(url: string): Promise<Replica> {
  const session = await openMysqlSession(url);
  const failing = (doing: string) => (error: unknown) => {
    throw mysqlError(error, doing);
  };
  try {
    const dialect = session.isMariadb ? mariadbDialect : mysqlDialect;
    const id = await ensureOwnTables(session, dialect.collation);
    const findings = await triggerFindings(session);
    return {
      dialect,
      id,
      parts: partStore({
        ...shardRow.options,
        tables: "cascade_tables",
        rows: ({ text, values }) =>
          session.exclusive(() => session.query(text, values)).catch(failing("reading the replica's part")),
        transaction: (steps) =>
          session
            .transaction(async () => {
              for (const step of steps) checkStep(step, await session.change(step.text, step.values));
            })
            .catch(failing("changing cascade_shard")),
      }),
      findings: () => findings,
      check: () =>
        session.exclusive(async () => void (await session.query("SELECT 1"))).catch(failing("asking the replica for an answer")),
      claim: (wanted, instead) =>
        session
          .transaction(() => shardRow.claim((text, values) => session.query(text, values), wanted, instead))
          .catch(failing("reading cascade_shard")),
      progress: (partition) =>
        session.exclusive(() => readProgress(session, partition)).catch(failing(`reading progress of ${partition.topic}`)),
      progressOf: (topic) =>
        session.exclusive(() => readProgressOf(session, topic)).catch(failing(`reading progress of ${topic}`)),
      held: (partition) =>
        session
          .exclusive(async () => {
            const { text, values } = heldRows.select(partition);
            return (await session.query(text, values)).map(heldKeyOf);
          })
          .catch(failing("reading cascade_held_keys")),
      remembered: (oids) =>
        session.exclusive(() => readRemembered(session, oids)).catch(failing("reading what the replica remembers of its tables")),
      prepare: (schema, mayCreate = true, named = schema, revision?) =>
        session
          .exclusive(() => prepareMysqlTable(session, dialect, schema, mayCreate, named, revision))
          .catch(failing(`preparing the replica of table ${formatTableName(schema)}`)),
      change: async (changes, advance) => {
        await using changing = await openMysqlSession(url, { patient: true });
        await changeMysqlTables({ session: changing, dialect, advance }, changes).catch(
          failing(`changing tables for ${advance.partition.topic}`),
        );
      },
      apply: (work, advance) =>
        applyWork(work, isConstraintError, (statements) =>
          session.transaction(() => carryOut(session, { ...work, statements }, advance.partition, advance)),
        ).catch(failing(`applying ${advance.partition.topic}[${advance.partition.partition}]`)),
      settle: (work, partition) =>
        applyWork(work, isConstraintError, (statements) =>
          session.transaction(() => carryOut(session, { ...work, statements }, partition)),
        ).catch(failing(`applying what was held of ${partition.topic}[${partition.partition}]`)),
      [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
    };
  } catch (error) {
    await session[Symbol.asyncDispose]();
    throw mysqlError(error, "making Cascade's tables in the replica");
  }
}

/** Foreign keys are switched off for the session; triggers cannot be. */
async function triggerFindings(session: MysqlSession): Promise<readonly string[]> {
  const triggers = await session.query(
    "SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS of FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() ORDER BY 1",
  );
  return triggers.map(
    ({ name, of }) =>
      `trigger ${String(name)} of the replica's table ${String(of)} acts on replicated rows, and MySQL and MariaDB cannot keep it from that: drop it unless it is wanted`,
  );
}

async function carryOut(
  session: MysqlSession,
  { statements, tables, holds }: Omit<Work, "inOrder">,
  partition: Partition,
  advance?: Advance,
): Promise<void> {
  if (advance !== undefined) await advanceProgress(session, advance);
  for (const held of heldRows.statements(holds)) checkHeld(await session.change(held.text, held.values), held);
  await checkUnchanged(session, tables, partition);
  for (const statement of statements) {
    const affected = await session.run(statement);
    const { mustAffect } = statement;
    if (mustAffect !== undefined && affected < mustAffect) throw missingRow(partition.topic, mustAffect, affected);
  }
}
