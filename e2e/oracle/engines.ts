import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSession } from "@cascade/cdc/src/postgres/session.ts";
import { testReplicaPostgres } from "@cascade/local/servers.ts";
import { sqliteTableName } from "@cascade/shard-router/src/dialects/sqlite.ts";
import { wireKind } from "@cascade/shard-router/src/row-shape.ts";
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
    const table = sqliteTableName(name);
    database.run(`CREATE UNIQUE INDEX ${identifier(`unique ${table}`)} ON ${identifier(table)} (${identifier(column)})`);
  },
  // A REAL column keeps neither NaN nor negative zero (docs/decisions/0011).
  mayStop: (error, topic) =>
    error.code === "UNSUPPORTED_VALUE" && hasFloat(topic, (value) => value === "NaN" || Object.is(value, -0)),
};

export const ENGINES: readonly OracleEngine[] = [postgres, sqlite];

function hasFloat({ schema, events }: TableTopic, matches: (value: unknown) => boolean): boolean {
  const floats = schema.columns.filter(({ typeOid }) => wireKind(typeOid) === "float").map(({ name }) => name);
  return events.some(({ before, after }) => floats.some((name) => matches(before?.[name]) || matches(after?.[name])));
}
