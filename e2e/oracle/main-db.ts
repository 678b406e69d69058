import type { ChangeSource, SourceMessage } from "@cascade/cdc/src/change-source.ts";
import { Catalog } from "@cascade/cdc/src/postgres/catalog.ts";
import { ChangeDecoder } from "@cascade/cdc/src/postgres/change-decoder.ts";
import { withLostNumbers } from "@cascade/cdc/src/postgres/lost-numbers.ts";
import { NumberReader } from "@cascade/cdc/src/postgres/number-reader.ts";
import { probePlugin } from "@cascade/cdc/src/postgres/plugin-options.ts";
import { PollSource } from "@cascade/cdc/src/postgres/poll-source.ts";
import { connect, openSession } from "@cascade/cdc/src/postgres/session.ts";
import { ensureSlot, slotState } from "@cascade/cdc/src/postgres/slot.ts";
import { advancing } from "@cascade/cdc/src/postgres/undecodable.ts";
import { WalSource } from "@cascade/cdc/src/postgres/wal-source.ts";
import { testPostgres } from "@cascade/local/servers.ts";
import { parseLsn } from "@cascade/shared/lsn";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { quoteTableName } from "@cascade/shared/topic";
import pg from "pg";
import type { HistorySql, TransactionSql } from "./history-sql.ts";
import { identifier } from "./names.ts";
import { TYPES_DDL, TYPES_SCHEMA } from "./types.ts";

export const TOPIC_PREFIX = "oracle";

/**
 * What may come of a random change: a constraint refuses it (class 23), a value is too long for its index (54000), a deferred
 * constraint has yet to look at rows that are to be truncated (55006).
 */
const isRefusal = (error: unknown): boolean =>
  error instanceof pg.DatabaseError &&
  (error.code?.startsWith("23") === true || error.code === "54000" || error.code === "55006");

/** PostgreSQL, which says what is right, and cdc's own way of reading its WAL. */
export interface MainDb extends AsyncDisposable {
  readonly url: string;
  /** Makes the tables and lives through the transactions. Resolves to the number of transactions that were committed. */
  live(sql: HistorySql): Promise<number>;
  /** Everything the slot has to say of it, in order. */
  read(): Promise<readonly SourceMessage[]>;
  drop(tables: HistorySql): Promise<void>;
}

export async function openMainDb(name: string, mode: "stream" | "poll"): Promise<MainDb> {
  const server = await testPostgres();
  const url = await server.createDatabase(name);
  const client = new pg.Client({ connectionString: url, options: "-c timezone=UTC -c lc_monetary=C" });
  client.on("error", () => undefined);
  await client.connect();
  await client.query(TYPES_DDL);
  // The operators of citext and the like are found by it.
  await client.query(`SET search_path = ${identifier(TYPES_SCHEMA)}`);
  const session = await openSession(url);
  await ensureSlot(session.client, { slot: name, hasPublished: false });
  let reader: Reader | null = null;
  return {
    url,
    live: async ({ ddl, transactions }) => {
      for (const text of ddl) await client.query(text);
      let committed = 0;
      for (const transaction of transactions) if (await run(client, transaction)) committed++;
      return committed;
    },
    read: async () => {
      const { rows } = await client.query<{ lsn: string }>("SELECT pg_logical_emit_message(true, 'oracle', 'end')::text AS lsn");
      const end = parseLsn(rows[0]?.lsn ?? "");
      try {
        reader ??= await openReader(url, name, mode, session.client);
        return await reader.until(end);
      } catch (error) {
        // The next history is another one: past what could not be read, with a decoder that remembers nothing.
        await reader?.[Symbol.asyncDispose]();
        reader = null;
        await client.query("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", [name]);
        throw error;
      }
    },
    drop: async ({ schemas, publicTables }) => {
      await client.query("ROLLBACK");
      for (const table of publicTables) await client.query(`DROP TABLE IF EXISTS ${quoteTableName({ schema: "public", table })}`);
      for (const schema of schemas) await client.query(`DROP SCHEMA IF EXISTS ${identifier(schema)} CASCADE`);
    },
    [Symbol.asyncDispose]: async () => {
      await reader?.[Symbol.asyncDispose]();
      await session[Symbol.asyncDispose]();
      await client.end();
      await server.dropDatabase(name);
    },
  };
}

/** False when it was rolled back. */
async function run(client: pg.Client, { statements, guarded, end }: TransactionSql): Promise<boolean> {
  try {
    await client.query("BEGIN");
    for (const text of statements) {
      if (!guarded) await client.query(text);
      else if (!(await isTaken(client, `SAVEPOINT s; ${text}; RELEASE s`))) await client.query("ROLLBACK TO s");
    }
    await client.query(end);
    return end === "commit";
  } catch (error) {
    await client.query("ROLLBACK");
    if (!isRefusal(error))
      throw new Error(`the generator made SQL that is wrong: ${String(error)}\n${statements.join(";\n")}`, { cause: error });
    return false;
  }
}

async function isTaken(client: pg.Client, text: string): Promise<boolean> {
  try {
    await client.query(text);
    return true;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

interface Reader extends AsyncDisposable {
  until(end: bigint): Promise<readonly SourceMessage[]>;
}

async function openReader(url: string, slot: string, mode: "stream" | "poll", session: pg.Client): Promise<Reader> {
  const warn = () => undefined;
  const { losesNumbers, options: pluginOptions } = await probePlugin(session, slot);
  const decoder = new ChangeDecoder({ catalog: new Catalog(session, parseTableFilter("*.*"), TOPIC_PREFIX), warn, losesNumbers });
  const reader = losesNumbers ? await NumberReader.open(url, warn) : null;
  const from = (await slotState(session, slot))?.confirmedLsn ?? 0n;
  const slotSource: ChangeSource =
    mode === "stream"
      ? await WalSource.open({
          client: await connect(url, { replication: true }),
          slot,
          pluginOptions,
          decoder,
          maxMessages: 2_000,
          from,
          lingerMs: 0,
          advance: advancing(url, slot),
        })
      : new PollSource({ client: await connect(url), slot, pluginOptions, decoder, from, intervalMs: 5 });
  const source = reader === null ? slotSource : withLostNumbers(slotSource, decoder, reader);
  const stop = new AbortController();
  const messages = source.messages(stop.signal)[Symbol.asyncIterator]();
  return {
    until: async (end) => {
      const seen: SourceMessage[] = [];
      for (;;) {
        const next = await messages.next();
        if (next.done === true) throw new Error("the source ended by itself");
        seen.push(...next.value);
        const commit = next.value.findLast((message) => message.kind === "commit");
        if (commit !== undefined) source.confirm(commit.endLsn);
        if (commit !== undefined && commit.endLsn > end) return seen;
      }
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await source[Symbol.asyncDispose]();
      await reader?.[Symbol.asyncDispose]();
    },
  };
}
