import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSession } from "@cascade/cdc/src/postgres/session.ts";
import type { LocalMariadb } from "@cascade/local/mariadb.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { testMariadb, testReplicaPostgres } from "@cascade/local/servers.ts";
import { foldName } from "@cascade/shard-router/src/dialects/mysql.ts";
import { flatTableName } from "@cascade/shard-router/src/dialects/table-names.ts";
import { decimalOf } from "@cascade/shard-router/src/types/numbers.ts";
import type { ReceivedEvent } from "@cascade/shared/change-event";
import type { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import { identifier } from "./names.ts";

export interface EmptyDatabase {
  readonly url: string;
  drop(): Promise<void>;
}

/** What a table's topic carries. */
export interface TableTopic {
  readonly schema: TableSchema;
  readonly events: readonly ReceivedEvent[];
}

/** A kind of replica that has to come out equal. */
export interface OracleEngine {
  readonly name: string;
  empty(name: string): Promise<EmptyDatabase>;
  /** Gives the replica's table a unique index of its own, as a user may; engines that index no long texts do without. */
  makeUnique?(url: string, name: TableName, column: string): Promise<void>;
  /** Whether the engine's documented limits say that this error may stop the table: everything else is a failure. */
  mayStop(error: CascadeError, topic: TableTopic): boolean;
}

const postgres: OracleEngine = {
  name: "postgres",
  empty: async (name) => {
    const server = await testReplicaPostgres();
    return { url: await server.createDatabase(name), drop: () => server.dropDatabase(name) };
  },
  makeUnique: async (url, { schema, table }, column) => {
    await using session = await openSession(url);
    await session.client.query(`CREATE UNIQUE INDEX ON ${identifier(schema)}.${identifier(table)} (${identifier(column)})`);
  },
  mayStop: () => false,
};

const sqlite: OracleEngine = {
  name: "sqlite",
  empty: async (name) => {
    const folder = mkdtempSync(join(tmpdir(), "cascade-oracle-"));
    return { url: `sqlite://${join(folder, `${name}.db`)}`, drop: async () => rmSync(folder, { recursive: true, force: true }) };
  },
  makeUnique: async (url, name, column) => {
    using database = new Database(url.slice("sqlite://".length));
    const table = flatTableName(name);
    database.run(`CREATE UNIQUE INDEX ${identifier(`unique ${table}`)} ON ${identifier(table)} (${identifier(column)})`);
  },
  mayStop: () => false,
};

const mariadb: OracleEngine = {
  name: "mariadb",
  empty: async (name) => {
    const server = await mariadbServer();
    return { url: await server.createDatabase(name), drop: () => server.dropDatabase(name) };
  },
  // docs/types.md: names that MySQL does not allow, keys longer than an index of InnoDB's, and NaN in a DECIMAL.
  mayStop: (error, { schema, events }) => {
    if (error.code === "UNSUPPORTED_TABLE") return hasForbiddenName(schema);
    if (error.code !== "UNSUPPORTED_VALUE") return false;
    const decimals = schema.columns.filter((column) => decimalOf(column) !== null).map(({ name }) => name);
    const keys = schema.key;
    return [...events].some(({ before, after }) =>
      [before, after].some(
        (row) =>
          decimals.some((name) => row?.[name] === "NaN") ||
          keys.some((name) => typeof row?.[name] === "string" && row[name].length > SHORTEST_KEY),
      ),
    );
  },
};

/** Characters that a text of a key of several columns has room for, at the least. */
const SHORTEST_KEY = 190;

async function mariadbServer(): Promise<LocalMariadb> {
  const server = await testMariadb();
  if (server === null) throw new Error("MariaDB is not installed");
  return server;
}

function hasForbiddenName(schema: TableSchema): boolean {
  const columns = schema.columns.map(({ name }) => name);
  const names = [flatTableName(schema), ...columns];
  const forbidden = names.some((name) => name.length > 64 || /[ \t-\r]$/.test(name) || /[\u{10000}-\u{10FFFF}]/u.test(name));
  return forbidden || new Set(columns.map(foldName)).size < columns.length;
}

const duckdb: OracleEngine = {
  name: "duckdb",
  empty: async (name) => {
    const folder = mkdtempSync(join(tmpdir(), "cascade-oracle-"));
    return {
      url: `duckdb://${join(folder, `${name}.duckdb`)}`,
      drop: async () => rmSync(folder, { recursive: true, force: true }),
    };
  },
  // docs/types.md: names that DuckDB takes for one, NaN in a DECIMAL, and times past the year 294246.
  mayStop: (error, { schema, events }) => {
    if (error.code === "UNSUPPORTED_TABLE") {
      const columns = schema.columns.map(({ name }) => name.toLowerCase());
      return new Set(columns).size < columns.length || (schema.key.length === 0 && columns.includes("rowid"));
    }
    if (error.code !== "UNSUPPORTED_VALUE") return false;
    return events.some(({ before, after }) =>
      [before, after].some((row) =>
        Object.values(row ?? {}).some((value) => value === "NaN" || (typeof value === "string" && /^2942[4-7]\d-/.test(value))),
      ),
    );
  },
};

export const ENGINES: readonly OracleEngine[] = [postgres, ...(findMariadb() === null ? [] : [mariadb]), sqlite, duckdb];
