import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, quoteTableName } from "@cascade/shared/topic";
import type pg from "pg";
import { numberLost } from "./number-lost.ts";
import type { NumberQuery } from "./number-queries.ts";
import { missingReadRight } from "./read-rights.ts";
import { INSUFFICIENT_PRIVILEGE, postgresError, sqlStateOf } from "./session.ts";
import { type TableNow, tableNow } from "./table-now.ts";
import { losesSpecialNumbers } from "./wire-value.ts";

/** A rename may come between a look at the catalog and the query, and another one the next time. */
const MAX_TRIES = 3;
const QUERY_CANCELED = "57014";

interface Answered<Answer> {
  readonly named: boolean | null;
  readonly found: Answer;
}

/** Asks tables by the names that they have now, which may not be those of the events asked about. */
export class MainTables {
  readonly #client: pg.Client;
  readonly #warn: (message: string) => void;
  /** By schema id; forgotten when its names no longer fit. */
  readonly #tables = new Map<string, TableNow | null>();
  readonly #warned = new Set<string>();

  constructor(client: pg.Client, warn: (message: string) => void) {
    this.#client = client;
    this.#warn = warn;
  }

  /** null when there is nothing to ask: the table, or what is wanted of it, is gone. */
  async ask<Answer>(schema: TableSchema, query: (table: TableNow) => NumberQuery | null): Promise<Answer | null> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const table = await this.#table(schema);
      const built = table === null ? null : query(table);
      if (built === null) {
        this.#warnGone(schema);
        return null;
      }
      const row = await this.#query<Answer>(schema, built);
      if (row?.named === true) return row.found;
      this.#tables.delete(schema.id);
    }
    throw numberLost(schema, "the table was altered since a row of it was written, which can no longer be found");
  }

  async #table(schema: TableSchema): Promise<TableNow | null> {
    const known = this.#tables.get(schema.id);
    if (known !== undefined) return known;
    const attnums = schema.columns
      .filter(({ name, typeOid }) => losesSpecialNumbers(typeOid) || schema.key.includes(name))
      .map(({ attnum }) => attnum);
    try {
      const table = await tableNow(this.#client, schema.oid, attnums);
      this.#tables.set(schema.id, table);
      return table;
    } catch (error) {
      throw postgresError(error, "cannot read main-db's catalog");
    }
  }

  /** undefined when the query does not fit the table any more. */
  async #query<Answer>(schema: TableSchema, { text, values }: NumberQuery): Promise<Answered<Answer> | undefined> {
    try {
      return (await this.#client.query<Answered<Answer>>(text, [...values])).rows[0];
    } catch (error) {
      const state = sqlStateOf(error);
      if (state === INSUFFICIENT_PRIVILEGE) throw missingReadRight(schema);
      if (state === QUERY_CANCELED) throw tooSlow(schema);
      // Their messages quote values of rows.
      if (state?.startsWith("42") || state?.startsWith("22")) return undefined;
      throw postgresError(error, `cannot read numbers of ${formatTableName(schema)} that wal2json lost`);
    }
  }

  #warnGone(schema: TableSchema): void {
    if (this.#warned.has(schema.id)) return;
    this.#warned.add(schema.id);
    this.#warn(
      `${formatTableName(schema)} was dropped, or columns of it, before cdc had read its rows: NaN and infinities in them cannot be told from NULL any more`,
    );
  }
}

function tooSlow(schema: TableSchema): CascadeError {
  const table = quoteTableName(schema);
  return new CascadeError({
    code: "NUMBER_LOOKUP_TIMEOUT",
    verdict: "retry",
    message: `main-db did not find within a minute whether ${formatTableName(schema)} holds NaN or an infinity, which wal2json before 2.6 sends as null: the table is locked, or large and without a key`,
    advice: `for a table without a key, CREATE INDEX ON ${table} (c) WHERE c IN ('NaN', 'Infinity', '-Infinity') for each column c of type real, double precision or numeric, or a CHECK constraint that excludes those values; or install wal2json 2.6 or newer; cdc tries again`,
  });
}
