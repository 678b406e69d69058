import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { testMariadb, testReplicaPostgres } from "@cascade/local/servers.ts";
import type { Op, ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { createConnection, type FieldInfo } from "mariadb";
import pg from "pg";
import { coalesce } from "../src/coalesce.ts";
import type { ReplicaTable, Statement } from "../src/dialect.ts";
import { duckdbTableName } from "../src/dialects/duckdb.ts";
import { quoteMysql } from "../src/dialects/mysql.ts";
import { postgresTableName } from "../src/dialects/postgres.ts";
import { quote } from "../src/dialects/sql.ts";
import { flatTableName } from "../src/dialects/table-names.ts";
import { type Mutation, toMutations } from "../src/mutation.ts";
import type { Progress, Replica, Work } from "../src/replica.ts";
import { openMysqlReplica } from "../src/replicas/mysql.ts";
import { openPostgresReplica } from "../src/replicas/postgres.ts";
import { openSqliteReplica } from "../src/replicas/sqlite.ts";
import { duckdbFile } from "./duckdb-file.ts";

export type Row = Readonly<Record<string, unknown>>;

/** An empty database of a replica, and a second way into it. */
export interface ReplicaLab {
  readonly url: string;
  readonly dialect: TestedDialect;
  /** What a user of the engine calls a column for any text. */
  readonly textType: string;
  readonly quote: (name: string) => string;
  open(): Promise<Replica>;
  /** As someone other than the replica. */
  sql(text: string): Promise<readonly Row[]>;
  nameOf(schema: TableSchema): string;
  /** The table's rows, in no order. */
  rows(schema: TableSchema): Promise<readonly Row[]>;
  /** Closes every replica that is still open, then the database. */
  close(): Promise<void>;
}

export type ReplicaKind = "postgres" | "mysql" | "mariadb" | "sqlite" | "duckdb";
const LABS: Readonly<Record<ReplicaKind, () => Promise<ReplicaLab>>> = {
  postgres: postgresLab,
  mysql: () => mysqlFamilyLab(MYSQL_URL ?? "", "utf8mb4_0900_bin"),
  mariadb: mariadbLab,
  sqlite: sqliteLab,
  duckdb: duckdbLab,
};
/** MariaDB is left out where it is not installed and may not be, MySQL where no server is named. */
const LEFT_OUT: ReadonlySet<ReplicaKind> = new Set([
  ...(findMariadb() === null ? (["mariadb"] as const) : []),
  ...(process.env["CASCADE_TEST_MYSQL_URL"] ? [] : (["mysql"] as const)),
]);
export const REPLICA_KINDS = (Object.keys(LABS) as ReplicaKind[]).filter((kind) => !LEFT_OUT.has(kind));

export const isMysql = (kind: ReplicaKind): boolean => kind === "mysql" || kind === "mariadb";

export const replicaLab = (kind: ReplicaKind): Promise<ReplicaLab> => LABS[kind]();

export type TestedDialect = "postgres" | "mysql" | "sqlite" | "duckdb";

/** Databases are used again, emptied: making one takes longer than most tests. */
const freeUrls: string[] = [];
let databases = 0;
const EMPTY = `DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
  CREATE SCHEMA public;
  GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$`;

async function postgresLab(): Promise<ReplicaLab> {
  const server = await testReplicaPostgres();
  const url = freeUrls.pop() ?? (await server.createDatabase(`replica_${process.pid}_${++databases}`));
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  await client.connect();
  // bigints and times as text, as PostgreSQL writes them.
  const types = { getTypeParser: () => (text: string) => text };
  const sql = async (text: string) => {
    const result = await client.query<Row>({ text, types });
    return Array.isArray(result) ? [] : result.rows;
  };
  return labOver(
    { url, dialect: "postgres", textType: "text", quote },
    () => openPostgresReplica(url),
    sql,
    postgresTableName,
    async () => {
      await sql(EMPTY);
      await client.end();
      freeUrls.push(url);
    },
  );
}

type Answer = readonly (readonly unknown[])[] & { readonly meta?: readonly FieldInfo[] };

async function mariadbLab(): Promise<ReplicaLab> {
  const server = await testMariadb();
  if (server === null) throw new Error("MariaDB is not installed");
  return mysqlFamilyLab(server.url("mysql"), "utf8mb4_nopad_bin");
}

/** A MySQL of somebody else's, for there is no package of its server: .github/workflows/ci.yml runs one beside the tests. */
const MYSQL_URL = process.env["CASCADE_TEST_MYSQL_URL"];

/** A fresh database of the server; the URL's user may make and drop databases. */
async function mysqlFamilyLab(serverUrl: string, collation: string): Promise<ReplicaLab> {
  const name = `replica_${process.pid}_${++databases}`;
  const target = new URL(serverUrl);
  target.pathname = `/${name}`;
  const { hostname: host, port, username: user, password } = target;
  const connection = await createConnection({
    ...{ host, port: Number(port || 3306), user, password },
    multipleStatements: true,
    dateStrings: true,
    allowPublicKeyRetrieval: true,
  });
  await connection.query(`CREATE DATABASE ${name}; USE ${name}; SET foreign_key_checks = 0`);
  const sql = async (text: string) => {
    // As entries: an object of the connector's would not keep a column "__proto__".
    const rows = await connection.query<Answer>({ sql: text, rowsAsArray: true });
    const names = rows.meta?.map((field) => field.name());
    if (names === undefined) return [];
    return Array.from(rows, (row) => Object.fromEntries(names.map((column, at) => [column, row[at]])));
  };
  const url = target.href;
  const nameOf = (schema: TableSchema) => quoteMysql(flatTableName(schema));
  const textType = `LONGTEXT CHARACTER SET utf8mb4 COLLATE ${collation}`;
  return labOver(
    { url, dialect: "mysql", textType, quote: quoteMysql },
    () => openMysqlReplica(url),
    sql,
    nameOf,
    async () => {
      await connection.query(`DROP DATABASE ${name}`);
      await connection.end();
    },
  );
}

async function sqliteLab(): Promise<ReplicaLab> {
  const folder = mkdtempSync(join(tmpdir(), "cascade-replica-"));
  const path = join(folder, "replica.db");
  const database = new Database(path, { safeIntegers: true });
  database.run("PRAGMA busy_timeout = 5000");
  const sql = async (text: string) => {
    if (/^\s*(?:SELECT|PRAGMA)/i.test(text)) return database.prepare<Row, []>(text).all();
    database.exec(text);
    return [];
  };
  const nameOf = (schema: TableSchema) => quote(flatTableName(schema));
  return labOver(
    { url: `sqlite://${path}`, dialect: "sqlite", textType: "text", quote },
    () => openSqliteReplica(path, { lockTimeoutMs: 200 }),
    sql,
    nameOf,
    async () => {
      database.close();
      rmSync(folder, { recursive: true });
    },
  );
}

async function duckdbLab(): Promise<ReplicaLab> {
  const { url, open, sql, close } = await duckdbFile();
  return labOver({ url, dialect: "duckdb", textType: "varchar", quote }, open, sql, duckdbTableName, close);
}

function labOver(
  about: Pick<ReplicaLab, "url" | "dialect" | "textType" | "quote">,
  openReplica: () => Promise<Replica>,
  sql: ReplicaLab["sql"],
  nameOf: ReplicaLab["nameOf"],
  end: () => Promise<void>,
): ReplicaLab {
  const opened: Replica[] = [];
  return {
    ...about,
    sql,
    nameOf,
    open: async () => {
      const replica = await openReplica();
      opened.push(replica);
      return replica;
    },
    rows: (schema) => sql(`SELECT ${schema.columns.map(({ name }) => about.quote(name)).join(", ")} FROM ${nameOf(schema)}`),
    close: async () => {
      for (const replica of opened.splice(0)) await replica[Symbol.asyncDispose]();
      await end();
    },
  };
}

/** Work as the router makes it: coalesced, and every mutation by itself to fall back on. */
export function workFor(replica: Replica, table: ReplicaTable, mutations: readonly Mutation[]): Work {
  const render = (some: readonly Mutation[]): readonly Statement[] => replica.dialect.render(table, some);
  return {
    statements: render(coalesce(table.source, mutations)),
    inOrder: () => mutations.flatMap((mutation) => render([mutation])),
  };
}

export const event = (op: Op, before: WireRow | null, after: WireRow | null): ReceivedEvent => ({
  op,
  before,
  after,
  schemaId: "0123456789abcdef",
  committedAtMs: 0,
  commitLsn: 1n,
  ordinal: 0,
  marks: null,
});

/** One router's view of one partition: its replica's table, and the progress it last made. */
export interface Applier {
  readonly table: ReplicaTable;
  readonly partition: { readonly topic: string; readonly partition: number };
  progress: Progress | null;
  apply(events: readonly ReceivedEvent[]): Promise<void>;
  applyWork(work: Work): Promise<void>;
}

export async function applier(replica: Replica, schema: TableSchema): Promise<Applier> {
  const table = await replica.prepare(schema);
  const partition = { topic: `cascade.${schema.schema}.${schema.table}`, partition: 0 };
  const self: Applier = {
    table,
    partition,
    progress: await replica.progress(partition),
    apply: async (events) => self.applyWork(workFor(replica, table, toMutations(schema, events))),
    applyWork: async (work) => {
      const to = after(self.progress);
      await replica.apply(work, { partition, from: self.progress, to });
      self.progress = to;
    },
  };
  return self;
}

export const after = (from: Progress | null): Progress => ({
  nextOffset: (from?.nextOffset ?? 0n) + 10n,
  commitLsn: (from?.commitLsn ?? 0xffff_ffff_0000_0000n) + 16n,
  ordinal: (from?.ordinal ?? 0) + 1,
  sourceCommittedAtMs: 1_795_402_676_163,
});
