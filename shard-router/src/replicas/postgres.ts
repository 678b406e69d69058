import { formatTableName } from "@cascade/shared/topic";
import { postgresDialect } from "../dialects/postgres.ts";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Replica, Work } from "../replica.ts";
import { applyWork } from "./apply-work.ts";
import { checkHeld, heldKeyOf } from "./held-rows.ts";
import { checkStep, partStore } from "./part-store.ts";
import { changePostgresTables } from "./postgres-changes.ts";
import { isConstraintError, postgresError } from "./postgres-errors.ts";
import {
  advanceQuery,
  checkAdvanced,
  ensureOwnTables,
  heldRows,
  readProgress,
  readProgressOf,
  shardRow,
} from "./postgres-progress.ts";
import { checkUnchanged, readRemembered, unchangedQueries } from "./postgres-remembered.ts";
import { openPostgresSession, type PostgresSession } from "./postgres-session.ts";
import { preparePostgresTable } from "./postgres-tables.ts";
import { missingRow } from "./table-mismatch.ts";

/**
 * A PostgreSQL replica over one connection; calls wait for each other. A lost connection stays lost: every later call rejects with
 * verdict retry, and the caller opens anew. Rejects with verdict refuse when the login is wrong.
 */
export async function openPostgresReplica(url: string): Promise<Replica> {
  const session = await openPostgresSession(url);
  const id = await ensureOwnTables(session).catch(async (error: unknown) => {
    await session[Symbol.asyncDispose]();
    throw postgresError(error, "making the replica's tables in schema cascade");
  });
  return {
    dialect: postgresDialect,
    id,
    parts: partStore({
      ...shardRow.options,
      tables: "cascade.tables",
      rows: (query) =>
        session
          .transaction(async () => (await session.run([query]))[0]?.rows ?? [])
          .catch((error: unknown) => {
            throw postgresError(error, "reading the replica's part");
          }),
      transaction: (steps) =>
        session
          .transaction(async () => {
            for (const step of steps) checkStep(step, (await session.run([step]))[0]?.rowCount);
          })
          .catch((error: unknown) => {
            throw postgresError(error, "changing cascade.shard");
          }),
    }),
    findings: () => session.findings,
    check: () =>
      // In its turn: within a transaction of `apply` that has failed it would fail too.
      session
        .transaction(async () => void (await session.run([{ text: "SELECT 1" }])))
        .catch((error: unknown) => {
          throw postgresError(error, "asking the replica for a sign of life");
        }),
    claim: (wanted, instead) =>
      session
        .transaction(() =>
          shardRow.claim(async (text, values) => (await session.run([{ text, values }]))[0]?.rows ?? [], wanted, instead),
        )
        .catch((error: unknown) => {
          throw postgresError(error, "reading cascade.shard");
        }),
    progress: (partition) =>
      // In a transaction of its own: between those of `apply` nothing is read that may yet be rolled back.
      session
        .transaction(() => readProgress(session, partition))
        .catch((error: unknown) => {
          throw postgresError(error, `reading progress of ${partition.topic}`);
        }),
    progressOf: (topic) =>
      session
        .transaction(() => readProgressOf(session, topic))
        .catch((error: unknown) => {
          throw postgresError(error, `reading progress of ${topic}`);
        }),
    held: (partition) =>
      session
        .transaction(async () => (await session.run([heldRows.select(partition)]))[0]?.rows.map(heldKeyOf) ?? [])
        .catch((error: unknown) => {
          throw postgresError(error, "reading cascade.held_keys");
        }),
    remembered: (oids) =>
      session
        .transaction(() => readRemembered(session, oids))
        .catch((error: unknown) => {
          throw postgresError(error, "reading cascade.tables");
        }),
    prepare: (schema, mayCreate = true, named = schema, revision?) =>
      session
        .transaction(() => preparePostgresTable(session, schema, mayCreate, named, revision))
        .catch((error: unknown) => {
          throw postgresError(error, "preparing the replica", formatTableName(schema));
        }),
    change: (changes, advance) =>
      session
        .transaction(() => changePostgresTables(session, changes, advance))
        .catch((error: unknown) => {
          throw postgresError(error, `changing tables for ${advance.partition.topic}`);
        }),
    apply: (work, advance) =>
      applyWork(work, isConstraintError, (statements) =>
        session.transaction(() => carryOut(session, { ...work, statements }, advance.partition, advance)),
      ).catch((error: unknown) => {
        throw postgresError(error, `applying ${advance.partition.topic}[${advance.partition.partition}]`);
      }),
    settle: (work, partition) =>
      applyWork(work, isConstraintError, (statements) =>
        session.transaction(() => carryOut(session, { ...work, statements }, partition)),
      ).catch((error: unknown) => {
        throw postgresError(error, `applying what was held of ${partition.topic}[${partition.partition}]`);
      }),
    [Symbol.asyncDispose]: () => session[Symbol.asyncDispose](),
  };
}

/** Each is given up when its answer takes too long, counted from when it was sent: rows of a table without a key take a scan each. */
const MAX_QUERIES_AT_ONCE = 200;

/** Compare-and-set and statements in one round trip: when the first fails or finds a stale value, the transaction is rolled back. */
async function carryOut(
  session: PostgresSession,
  { statements, tables, holds }: Omit<Work, "inOrder">,
  partition: Partition,
  advance?: Advance,
): Promise<void> {
  const queries = statements.flatMap(({ text, parameterSets }) => parameterSets.map((values) => ({ text, values })));
  const held = heldRows.statements(holds);
  const steps = advance === undefined ? [] : [advanceQuery(advance)];
  const fences = session.run([...steps, ...held, ...unchangedQueries(tables)]);
  const sent = session.run(queries.slice(0, MAX_QUERIES_AT_ONCE));
  sent.catch(() => {}); // a stale value matters more than what the statements met because of it
  const fenced = await fences;
  if (advance !== undefined) checkAdvanced(fenced[0], advance);
  for (const [at, statement] of held.entries()) checkHeld(fenced[steps.length + at]?.rowCount, statement);
  checkUnchanged(fenced.slice(steps.length + held.length), partition);
  const answers = [...(await sent)];
  for (let at = MAX_QUERIES_AT_ONCE; at < queries.length; at += MAX_QUERIES_AT_ONCE) {
    answers.push(...(await session.run(queries.slice(at, at + MAX_QUERIES_AT_ONCE))));
  }
  let next = 0;
  for (const { parameterSets, mustAffect } of statements) {
    const mine = answers.slice(next, next + parameterSets.length);
    next += parameterSets.length;
    if (mustAffect === undefined) continue;
    const affected = mine.reduce((sum, answer) => sum + (answer.rowCount ?? 0), 0);
    if (affected < mustAffect) throw missingRow(partition.topic, mustAffect, affected);
  }
}
