import { quoteTableName } from "@cascade/shared/topic";
import type pg from "pg";
import type { Catalog } from "./catalog.ts";
import type { ChangeDecoder } from "./change-decoder.ts";
import { type DdlMode, ddlCaptureState, ensureDdlCapture } from "./ddl-capture.ts";
import { lateMessages } from "./ddl-message.ts";
import { DDL_SCHEMA } from "./ddl-trigger.ts";
import { INSUFFICIENT_PRIVILEGE, postgresError, sqlStateOf } from "./session.ts";
import { DDL_PREFIX } from "./wal2json.ts";

/** A lock that is not to be had in time, a name that has changed. */
const NOT_NOW = ["55P03", "42P01", "3F000"];
/** Whoever alters a table waits behind who waits for its lock. */
const LOCK_TIMEOUT_MS = 1_000;
const TOLD_AT_ONCE = 100;

export interface DdlWatchOptions {
  readonly client: pg.Client;
  readonly catalog: Catalog;
  readonly decoder: ChangeDecoder;
  readonly mode: DdlMode;
  readonly warn: (message: string) => void;
}

/**
 * Sees to it that what tables look like in the catalog is said in the stream: a change that no event trigger told of is told late, as a
 * message in the WAL like the trigger's, so that it has a place among the rows. And that the trigger is there.
 */
export class DdlWatch {
  readonly #options: DdlWatchOptions;
  /** Tables that look otherwise than was announced, at the last look: the stream may not have come to their change yet. */
  #differing: string | null = "";
  #toldLast = "";
  #warned = false;

  constructor(options: DdlWatchOptions) {
    this.#options = options;
  }

  /** At the start of a life, or of a trigger's: what differs now is told at once, behind all that the stream has still to read. */
  async begin(): Promise<void> {
    const differing = await this.#look();
    if (differing.oids.length === 0) return;
    this.#toldLast = this.#differing = differing.text;
    await this.#tell(differing.oids);
  }

  async check(): Promise<void> {
    await this.#checkTrigger();
    if ((await this.#options.decoder.refresh()) && this.#differing === null) this.#differing = "";
    if (this.#differing === null) return;
    const { oids, text } = await this.#look();
    // Twice the same: it is not just on its way. Once is enough then, however far behind the stream is.
    if (oids.length > 0 && text === this.#differing && text !== this.#toldLast) {
      this.#toldLast = text;
      await this.#tell(oids);
    }
    this.#differing = oids.length === 0 ? null : text;
  }

  /** Tables that look otherwise in the catalog than was announced, and how, as text. */
  async #look(): Promise<{ readonly oids: readonly number[]; readonly text: string }> {
    const { catalog, decoder } = this.#options;
    const relations = await catalog.captured();
    const oids = decoder.tables.announcer.differing(relations);
    const ids = new Map(relations.map(({ schema }) => [schema.oid, schema.id]));
    return { oids, text: oids.map((oid) => `${oid} ${ids.get(oid) ?? ""}`).join() };
  }

  /** It may be removed, disabled, or installed by somebody who may, at any time. */
  async #checkTrigger(): Promise<void> {
    const { client, decoder, mode, warn } = this.#options;
    if (mode === "off") return;
    const there = (await ddlCaptureState(client)) !== "missing";
    if (there === decoder.told) return;
    if (!there) warn("cdc's event triggers on main-db were removed or disabled; CDC_DDL=off keeps cdc from installing them");
    decoder.told = there || (await ensureDdlCapture(client, mode, warn));
    await this.begin();
  }

  /** In transactions that hold their tables as they are: else a change that commits meanwhile would be told of before, and undone by this. */
  async #tell(oids: readonly number[]): Promise<void> {
    for (let start = 0; start < oids.length; start += TOLD_AT_ONCE) {
      const some = oids.slice(start, start + TOLD_AT_ONCE);
      try {
        if (!this.#options.decoder.told || !(await this.#tellByTrigger(some))) await this.#tellByCatalog(some);
      } catch (error) {
        const state = sqlStateOf(error) ?? "";
        if (!NOT_NOW.includes(state)) throw postgresError(error, "cannot write a schema change into main-db's WAL");
        // A table is being altered: the next look finds it again.
        this.#toldLast = "";
      }
    }
  }

  /** Its own function writes partitions too. Whether this role may call it. */
  async #tellByTrigger(oids: readonly number[]): Promise<boolean> {
    try {
      await this.#inTransaction((client) =>
        client.query(`SELECT ${DDL_SCHEMA}.tell(${DDL_SCHEMA}.families($1::oid[]), true)`, [oids]),
      );
      return true;
    } catch (error) {
      if (sqlStateOf(error) === INSUFFICIENT_PRIVILEGE) return false;
      throw error;
    }
  }

  async #tellByCatalog(oids: readonly number[]): Promise<void> {
    const lock = (client: pg.Client, names: readonly string[]) =>
      client.query(`LOCK TABLE ONLY ${names.join(", ONLY ")} IN ACCESS SHARE MODE`);
    const { rows: before } = await this.#options.catalog.rowsOf(oids);
    const names = before.relations.map(quoteTableName);
    // Without SELECT on a table there is no lock for it: then without.
    const mayLock = names.length > 0 && (await this.#may((client) => lock(client, names)));
    const told = await this.#may(async (client) => {
      if (mayLock) await lock(client, names);
      const { rows, there } = await this.#options.catalog.rowsOf(oids);
      const found = new Set(rows.relations.map(({ oid }) => Number(oid)));
      const gone = oids.filter((oid) => !found.has(oid));
      for (const message of lateMessages(rows, gone, there))
        await client.query("SELECT pg_logical_emit_message(true, $1, $2)", [DDL_PREFIX, message]);
    });
    if (!told && !this.#warned) {
      this.#warned = true;
      this.#options.warn(
        "the role of CDC_DATABASE_URL may not call pg_logical_emit_message: schema changes are found by the next row of a table only",
      );
    }
  }

  async #may(work: (client: pg.Client) => Promise<unknown>): Promise<boolean> {
    try {
      await this.#inTransaction(work);
      return true;
    } catch (error) {
      if (sqlStateOf(error) === INSUFFICIENT_PRIVILEGE) return false;
      throw error;
    }
  }

  async #inTransaction(work: (client: pg.Client) => Promise<unknown>): Promise<void> {
    const { client } = this.#options;
    try {
      await client.query("BEGIN");
      await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
      await work(client);
      await client.query("COMMIT");
    } catch (error) {
      await client.query("ROLLBACK").catch(() => undefined);
      throw error;
    }
  }
}
