import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testReplicaPostgres } from "@cascade/local/servers.ts";
import { wireKind } from "@cascade/shard-router/src/row-shape.ts";
import type { ReceivedEvent } from "@cascade/shared/change-event";
import type { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";

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
  /** Whether the engine's documented limits say that this error may stop the table: everything else is a failure. */
  mayStop(error: CascadeError, topic: TableTopic): boolean;
}

const postgres: OracleEngine = {
  name: "postgres",
  empty: async (name) => {
    const server = await testReplicaPostgres();
    return { url: await server.createDatabase(name), drop: () => server.dropDatabase(name) };
  },
  mayStop: () => false,
};

const sqlite: OracleEngine = {
  name: "sqlite",
  empty: async (name) => {
    const folder = mkdtempSync(join(tmpdir(), "cascade-oracle-"));
    return { url: `sqlite://${join(folder, `${name}.db`)}`, drop: async () => rmSync(folder, { recursive: true, force: true }) };
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
