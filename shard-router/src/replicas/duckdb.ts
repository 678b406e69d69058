import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { duckdbDialect } from "../dialects/duckdb.ts";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Replica, Work } from "../replica.ts";
import { applyWork } from "./apply-work.ts";
import { changeDuckdbTables } from "./duckdb-changes.ts";
import { duckdbError, fileReplaced, isConstraintError } from "./duckdb-errors.ts";
import { advanceProgress, ensureOwnTables, heldRows, readProgress, readProgressOf, shardRow } from "./duckdb-progress.ts";
import { checkUnchanged, readRemembered } from "./duckdb-remembered.ts";
import { type DuckdbSession, fileId, openDuckdbSession } from "./duckdb-session.ts";
import { ensureTableNames, prepareDuckdbTable } from "./duckdb-tables.ts";
import { checkHeld, heldKeyOf } from "./held-rows.ts";
import { checkStep, partStore } from "./part-store.ts";
import { missingRow } from "./table-mismatch.ts";

/** A replica in one DuckDB file, made when missing. Rejects with verdict refuse when the file cannot be opened. */
export async function openDuckdbReplica(path: string): Promise<Replica> {
  const session = await openDuckdbSession(path);
  const failing = (doing: string) => (error: unknown) => {
    throw duckdbError(error, doing);
  };
  const { id, findings } = await session
    .transaction(async () => {
      await ensureTableNames(session);
      return { id: await ensureOwnTables(session), findings: await foreignKeys(session) };
    })
    .catch(async (error: unknown) => {
      await session[Symbol.asyncDispose]();
      throw duckdbError(error, `opening ${path}`);
    });
  return {
    dialect: duckdbDialect,
    id,
    parts: partStore({
      ...shardRow.options,
      tables: "main.cascade_tables",
      rows: ({ text, values }) =>
        session.transaction(() => session.rows(text, withBigints(values))).catch(failing("reading the replica's part")),
      transaction: (steps) =>
        session
          .transaction(async () => {
            for (const step of steps) checkStep(step, await session.run(step.text, withBigints(step.values)));
          })
          .catch(failing("changing cascade_shard")),
    }),
    findings: () => findings,
    check: async () => {
      if (fileId(path) !== session.fileId) throw fileReplaced(path);
    },
    claim: (wanted, instead) =>
      session
        .transaction(() => shardRow.claim((text, values) => session.rows(text, [...values]), wanted, instead))
        .catch(failing("reading cascade_shard")),
    progress: (partition) =>
      session.transaction(() => readProgress(session, partition)).catch(failing(`reading progress of ${partition.topic}`)),
    progressOf: (topic) =>
      session.transaction(() => readProgressOf(session, topic)).catch(failing(`reading progress of ${topic}`)),
    held: (partition) =>
      session
        .transaction(async () => {
          const { text, values } = heldRows.select(partition);
          return (await session.rows(text, withBigints(values))).map(heldKeyOf);
        })
        .catch(failing("reading cascade_held_keys")),
    remembered: (oids) =>
      session.transaction(() => readRemembered(session, oids)).catch(failing("reading what the replica remembers of its tables")),
    prepare: (schema, mayCreate = true, named = schema, revision?) =>
      session
        .transaction(() => prepareDuckdbTable(session, schema, mayCreate, named, revision))
        .catch(failing(`preparing the replica of table ${formatTableName(schema)}`)),
    change: (changes, advance) =>
      changeDuckdbTables(session, changes, advance).catch(failing(`changing tables for ${advance.partition.topic}`)),
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
}

/** DuckDB can switch its foreign keys off neither for a session nor for a table. */
async function foreignKeys(session: DuckdbSession): Promise<readonly string[]> {
  const found = await session.rows(
    `SELECT schema_name, table_name, constraint_text FROM duckdb_constraints()
      WHERE database_name = current_database() AND constraint_type = 'FOREIGN KEY' ORDER BY ALL`,
  );
  return found.map(
    ({ schema_name, table_name, constraint_text }) =>
      `${constraint_text} of the replica's table ${schema_name}.${table_name} holds for replicated rows too, which may come in another order, and DuckDB cannot keep it from that: make the table anew without it`,
  );
}

/** The driver binds a number as a double. */
const withBigints = (values: readonly SqlValue[]): readonly SqlValue[] =>
  values.map((value) => (typeof value === "number" ? BigInt(value) : value));

async function carryOut(
  session: DuckdbSession,
  { statements, tables, holds }: Omit<Work, "inOrder">,
  partition: Partition,
  advance?: Advance,
): Promise<void> {
  if (advance !== undefined) await advanceProgress(session, advance);
  for (const held of heldRows.statements(holds)) checkHeld(await session.run(held.text, withBigints(held.values)), held);
  await checkUnchanged(session, tables, partition);
  for (const { text, parameterSets, mustAffect } of statements) {
    let affected = 0;
    for (const values of parameterSets) affected += await session.run(text, values);
    if (mustAffect !== undefined && affected < mustAffect) throw missingRow(partition.topic, mustAffect, affected);
  }
}
