import { CascadeError } from "@cascade/shared/errors";
import type { TableFilter } from "@cascade/shared/table-pattern";
import { formatTableName, quoteTableName, type TableName } from "@cascade/shared/topic";
import type pg from "pg";
import { keyTexts } from "../snapshot/key-texts.ts";
import { encodeMark, type SnapshotMark } from "../snapshot/mark.ts";
import type { ChunkPlan, ChunkRows, RowRange, SnapshotRow, TableFound, TableReader } from "../snapshot/table-reader.ts";
import { Catalog } from "./catalog.ts";
import { type ChunkQuery, ChunkSql } from "./chunk-sql.ts";
import { charsOf, readAll, readUpTo } from "./row-stream.ts";
import { connect, disconnect, INSUFFICIENT_PRIVILEGE, postgresError, sqlStateOf } from "./session.ts";
import { parseSnapshot, type Snapshot } from "./snapshot.ts";
import { tableNow } from "./table-now.ts";
import { SNAPSHOT_PREFIX } from "./wal2json.ts";

/** A chunk by its key's index, whatever the statistics say; hidden rows are an error, not absent. */
const READER_SETTINGS: Readonly<Record<string, string>> = {
  enable_seqscan: "off",
  enable_bitmapscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  max_parallel_workers_per_gather: "0",
  jit: "off",
  row_security: "off",
  standard_conforming_strings: "on",
  idle_in_transaction_session_timeout: "0",
};
/** A mark need not reach the standbys before the stream brings it. */
const MARKER_SETTINGS: Readonly<Record<string, string>> = { synchronous_commit: "local" };

/** Of a chunk's rows as text; a single larger row is a chunk of its own. */
const MAX_CHUNK_CHARS = 1024 * 1024;
const SCAN_CHARS = 1024 * 1024;

/** What a query says that is wrong in itself: no next try would help. */
const REFUSALS = ["0A", "21", "22", "25006", "2F", "38", "39", "42", "P0"];
const UNDEFINED_TABLE = "42P01";

// What a plan was made from: another text when the table, a column or an index of it was altered. A lock keeps it so.
const FOUND = `
  SELECT pg_current_snapshot()::text AS snapshot, n.nspname AS schema, c.relname AS "table",
         concat_ws(' ', c.xmin, c.relkind, c.relreplident,
           (SELECT string_agg(a.xmin::text, ' ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
           (SELECT string_agg(concat_ws(':', i.indexrelid, i.xmin), ' ' ORDER BY i.indexrelid) FROM pg_index i WHERE i.indrelid = c.oid)) AS fingerprint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`;

interface FoundRow extends TableName {
  readonly snapshot: string;
  readonly fingerprint: string;
}

interface Plan {
  readonly fingerprint: string;
  readonly name: TableName;
  readonly sql: ChunkSql;
  /** Of its rows as text, as last seen; null before the first. */
  rowChars: number | null;
}

export interface ChunkReaderOptions {
  readonly databaseUrl: string;
  readonly filter: TableFilter;
  readonly topicPrefix: string;
  readonly chunkRows: number;
}

/** Reads tables over a session of its own; marks, and cancels what is enough, over another. */
export class ChunkReader implements TableReader {
  readonly #options: ChunkReaderOptions;
  readonly #client: pg.Client;
  readonly #marker: pg.Client;
  readonly #catalog: Catalog;
  readonly #pid: number;
  readonly #plans = new Map<number, Plan>();
  /** What the table being read was called last. */
  #name: TableName | null = null;

  private constructor(options: ChunkReaderOptions, client: pg.Client, marker: pg.Client, pid: number) {
    this.#options = options;
    this.#client = client;
    this.#marker = marker;
    this.#catalog = new Catalog(client, options.filter, options.topicPrefix);
    this.#pid = pid;
  }

  static async open(options: ChunkReaderOptions): Promise<ChunkReader> {
    const client = await connect(options.databaseUrl, { settings: READER_SETTINGS });
    try {
      const { rows } = await client.query<{ readonly pid: number }>("SELECT pg_backend_pid() AS pid");
      const marker = await connect(options.databaseUrl, { settings: MARKER_SETTINGS });
      return new ChunkReader(options, client, marker, rows[0]?.pid ?? 0);
    } catch (error) {
      await disconnect(client);
      throw postgresError(error, "cannot open a session for the snapshot");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([disconnect(this.#client), disconnect(this.#marker)]);
  }

  snapshot(): Promise<Snapshot> {
    return this.#tell("cannot ask main-db which transactions are visible", async () => {
      const { rows } = await this.#marker.query<{ readonly text: string }>("SELECT pg_current_snapshot()::text AS text");
      return parseSnapshot(rows[0]?.text ?? "");
    });
  }

  waitsForStandby(): Promise<boolean> {
    return this.#tell("cannot read main-db's settings", async () => {
      const { rows } = await this.#marker.query<{ readonly names: string }>("SHOW synchronous_standby_names");
      return Object.values(rows[0] ?? {})[0] !== "";
    });
  }

  mark(mark: SnapshotMark): Promise<void> {
    return this.#tell("cannot write the snapshot's mark into main-db's WAL", async () => {
      await this.#marker.query("SELECT pg_logical_emit_message(true, $1, $2)", [SNAPSHOT_PREFIX, encodeMark(mark)]);
    });
  }

  chunk(
    oid: number,
    plan: ChunkPlan,
    range: RowRange,
    found: (table: TableFound) => boolean,
  ): Promise<ChunkRows | null | "gone"> {
    return this.#reading(oid, found, async (table) => {
      const { key } = table.sql.schema;
      const limit = this.#limit(table);
      const query: ChunkQuery =
        plan.kind === "rows"
          ? table.sql.rows(
              plan.keys.map((row) => keyTexts(row, table.sql.schema)),
              range,
            )
          : table.sql.range(
              plan.after === null || key.length === 0 ? null : keyTexts(plan.after, table.sql.schema),
              limit,
              range,
            );
      const { rows, cut } = await readUpTo(this.#client, query, MAX_CHUNK_CHARS, () => this.#cancel());
      if (rows.length > 0) table.rowChars = rows.reduce((sum, row) => sum + charsOf(row), 0) / rows.length;
      return { rows, last: !cut && (plan.kind === "rows" || rows.length < limit), cut };
    });
  }

  async scan(
    oid: number,
    found: (table: TableFound) => boolean,
    take: (rows: readonly SnapshotRow[]) => Promise<void>,
  ): Promise<"done" | null | "gone"> {
    const done = await this.#reading(oid, found, async ({ sql }) => {
      await this.#client.query("SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on");
      await readAll(this.#client, sql.all(), SCAN_CHARS, take);
      return { cut: false };
    });
    return done === null || done === "gone" ? done : "done";
  }

  /** So many that their text is about enough, going by the last chunk: none need be read for nothing then. */
  #limit({ rowChars }: Plan): number {
    const { chunkRows } = this.#options;
    return rowChars === null ? chunkRows : Math.max(1, Math.min(chunkRows, Math.floor(MAX_CHUNK_CHARS / rowChars)));
  }

  /** One transaction: the table locked against being altered, found as it is, and read. */
  async #reading<T extends { readonly cut: boolean }>(
    oid: number,
    found: (table: TableFound) => boolean,
    read: (plan: Plan) => Promise<T>,
  ): Promise<T | null | "gone"> {
    try {
      const plan = await this.#begin(oid);
      if (plan === "gone") return "gone";
      const will = found({ snapshot: plan.snapshot, schema: plan.plan.sql.schema });
      const result = will ? await read(plan.plan) : null;
      await this.#end(result?.cut === false ? "COMMIT" : "ROLLBACK");
      return result;
    } catch (error) {
      await this.#client.query("ROLLBACK").catch(() => undefined); // a lost connection has ended it already
      throw this.#failure(error, oid);
    }
  }

  async #begin(oid: number): Promise<{ readonly snapshot: Snapshot; readonly plan: Plan } | "gone"> {
    for (;;) {
      const known = this.#plans.get(oid);
      this.#name = known?.name ?? null;
      this.#name ??= await this.#nameOf(oid);
      const name = this.#name;
      if (name === null) return "gone";
      // A statement of its own before the first that takes a snapshot: what is seen is then as new as the lock.
      const locked = await this.#lock(name);
      const [row] = locked ? (await this.#client.query<FoundRow>(FOUND, [oid])).rows : [];
      if (row !== undefined && row.schema === name.schema && row.table === name.table) {
        const plan = known?.fingerprint === row.fingerprint ? known : await this.#plan(oid, row);
        return plan === null ? this.#gone(oid) : { snapshot: parseSnapshot(row.snapshot), plan };
      }
      // Renamed, or gone, since its name was read.
      await this.#client.query("ROLLBACK");
      this.#plans.delete(oid);
    }
  }

  async #gone(oid: number): Promise<"gone"> {
    await this.#client.query("ROLLBACK");
    this.#plans.delete(oid);
    return "gone";
  }

  async #lock(name: TableName): Promise<boolean> {
    try {
      await this.#client.query(
        `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE ${quoteTableName(name)} IN ACCESS SHARE MODE`,
      );
      return true;
    } catch (error) {
      if (sqlStateOf(error) !== UNDEFINED_TABLE) throw error;
      return false;
    }
  }

  async #nameOf(oid: number): Promise<TableName | null> {
    const { rows } = await this.#client.query<TableName>(
      `SELECT n.nspname AS schema, c.relname AS "table" FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1`,
      [oid],
    );
    return rows[0] ?? null;
  }

  /** null when it is not captured any more. */
  async #plan(oid: number, { schema, table, fingerprint }: FoundRow): Promise<Plan | null> {
    const name = { schema, table };
    const relation = await this.#catalog.relationInTransaction(name);
    if (typeof relation === "string" || relation.schema.oid !== oid) return null;
    const attnums = relation.schema.columns.filter((column) => relation.schema.key.includes(column.name)).map((c) => c.attnum);
    const now = (await tableNow(this.#client, oid, attnums)) ?? { oid, sqlName: "", columns: new Map() };
    const rowChars = this.#plans.get(oid)?.rowChars ?? null;
    const plan: Plan = { fingerprint, name, sql: new ChunkSql(relation, now), rowChars };
    this.#plans.set(oid, plan);
    return plan;
  }

  async #end(command: "COMMIT" | "ROLLBACK"): Promise<void> {
    try {
      await this.#client.query(command);
    } catch (error) {
      // A cancel that came after what it was meant for.
      if (sqlStateOf(error) !== "57014") throw error;
      await this.#client.query("ROLLBACK");
    }
  }

  async #cancel(): Promise<void> {
    await this.#marker.query("SELECT pg_cancel_backend($1)", [this.#pid]);
  }

  /** What the server says may quote values of rows: its SQLSTATE alone is told. */
  #failure(error: unknown, oid: number): CascadeError {
    const state = sqlStateOf(error);
    const name = this.#name;
    const table = name === null ? `the table with OID ${oid}` : formatTableName(name);
    if (state === INSUFFICIENT_PRIVILEGE) return unreadable(table);
    if (state !== null && REFUSALS.some((prefix) => state.startsWith(prefix))) return refusedByServer(table, state);
    return postgresError(error, `cannot read ${table} for the snapshot`);
  }

  async #tell<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw postgresError(error, doing);
    }
  }
}

function unreadable(table: string): CascadeError {
  return new CascadeError({
    code: "MISSING_RIGHT",
    verdict: "stop-table",
    message: `the role of CDC_DATABASE_URL may not read all of ${table}`,
    advice: `grant it: GRANT USAGE ON SCHEMA ..., GRANT SELECT ON ${table}; where row level security hides rows, ALTER ROLE <user> BYPASSRLS`,
  });
}

function refusedByServer(table: string, state: string): CascadeError {
  return new CascadeError({
    code: "SNAPSHOT_QUERY_REFUSED",
    verdict: "stop-table",
    message: `main-db refuses to read ${table} for the snapshot (SQLSTATE ${state})`,
    advice:
      "correct `where`, `from` and `to` of the request; columns are called as on main-db, functions of yours with their schema",
  });
}
