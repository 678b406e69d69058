import type pg from "pg";
import type { Catalog } from "./catalog.ts";
import type { ChangeDecoder } from "./change-decoder.ts";
import { type DdlMode, ddlCaptureState, ensureDdlCapture } from "./ddl-capture.ts";
import { lateMessages } from "./ddl-message.ts";
import { DDL_SCHEMA } from "./ddl-trigger.ts";
import { postgresError, sqlStateOf } from "./session.ts";
import { DDL_PREFIX } from "./wal2json.ts";

const MISSING_RIGHT = "42501";

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

  /** At the start of a life: what differs now is told at once, behind all that the stream has still to read. */
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
    this.#differing ??= "";
  }

  async #tell(oids: readonly number[]): Promise<void> {
    const { client, catalog, decoder, warn } = this.#options;
    try {
      if (decoder.told && (await this.#tellByTrigger(oids))) return;
      const { rows, there } = await catalog.rowsOf(oids);
      const found = new Set(rows.relations.map(({ oid }) => Number(oid)));
      const gone = oids.filter((oid) => !found.has(oid));
      for (const message of lateMessages(rows, gone, there))
        await client.query("SELECT pg_logical_emit_message(true, $1, $2)", [DDL_PREFIX, message]);
    } catch (error) {
      if (sqlStateOf(error) !== MISSING_RIGHT) throw postgresError(error, "cannot write a schema change into main-db's WAL");
      if (!this.#warned)
        warn(
          "the role of CDC_DATABASE_URL may not call pg_logical_emit_message: schema changes are found by the next row of a table only",
        );
      this.#warned = true;
    }
  }

  /** Its own function writes partitions too. Whether this role may call it. */
  async #tellByTrigger(oids: readonly number[]): Promise<boolean> {
    try {
      await this.#options.client.query(`SELECT ${DDL_SCHEMA}.tell(${DDL_SCHEMA}.families($1::oid[]), true)`, [oids]);
      return true;
    } catch (error) {
      if (sqlStateOf(error) === MISSING_RIGHT) return false;
      throw error;
    }
  }
}
