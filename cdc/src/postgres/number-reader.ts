import type { ChangeEvent, RowJson } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import type pg from "pg";
import type { LostRow } from "./change-decoder.ts";
import { lostValue } from "./lost-value.ts";
import { MainTables } from "./main-tables.ts";
import { numberLost } from "./number-lost.ts";
import { rereadQuery, searchQuery } from "./number-queries.ts";
import { connect, disconnect, postgresError } from "./session.ts";
import { untilVisible } from "./visibility.ts";
import { losesSpecialNumbers } from "./wire-value.ts";

const MAX_ROWS_PER_QUERY = 2000;

/** By the key's index, whatever the statistics say; a CHECK constraint proves what it can; hidden rows are an error, not absent. */
const SETTINGS: Readonly<Record<string, string>> = {
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  jit: "off",
  constraint_exclusion: "on",
  row_security: "off",
  default_transaction_isolation: "read committed",
  statement_timeout: "60000",
};

/** What main-db says of rows whose numbers the plugin lost, up to the first that it must not be published for. */
export interface Reread {
  readonly after: ReadonlyMap<ChangeEvent, RowJson>;
  readonly refused: { readonly event: ChangeEvent; readonly error: CascadeError } | null;
}

/** Looks lost numbers up in their tables, over a session of its own. */
export class NumberReader implements AsyncDisposable {
  readonly #client: pg.Client;
  readonly #warn: (message: string) => void;
  readonly #tables: MainTables;

  private constructor(client: pg.Client, warn: (message: string) => void) {
    this.#client = client;
    this.#warn = warn;
    this.#tables = new MainTables(client, warn);
  }

  static async open(databaseUrl: string, warn: (message: string) => void): Promise<NumberReader> {
    return new NumberReader(await connect(databaseUrl, { settings: SETTINGS }), warn);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return disconnect(this.#client);
  }

  /** One query per table and a bounded number of rows; null when `signal` aborted. Rejects with a CascadeError. */
  async read(rows: readonly LostRow[], signal: AbortSignal): Promise<Reread | null> {
    const txIds = [...new Set(rows.map(({ event }) => event.transaction.txId))];
    try {
      if (!(await untilVisible(this.#client, txIds, { warn: this.#warn, signal }))) return null;
    } catch (error) {
      throw postgresError(error, "cannot ask main-db which transactions are visible");
    }
    const after = new Map<ChangeEvent, RowJson>();
    // Tables in the order of their first rows: what comes before the first one refused is complete.
    for (const ofTable of Map.groupBy(rows, ({ numbers }) => numbers.decoder.schema.id).values()) {
      const [first] = ofTable as [LostRow];
      const { schema } = first.numbers.decoder;
      try {
        if (schema.key.length === 0) await this.#search(schema, ofTable);
        else await this.#reread(schema, ofTable, after);
      } catch (error) {
        if (!(error instanceof CascadeError) || error.verdict !== "refuse") throw error;
        return { after, refused: { event: first.event, error } };
      }
    }
    return { after, refused: null };
  }

  async #reread(schema: TableSchema, rows: readonly LostRow[], after: Map<ChangeEvent, RowJson>): Promise<void> {
    for (let start = 0; start < rows.length; start += MAX_ROWS_PER_QUERY)
      await this.#rereadSome(schema, rows.slice(start, start + MAX_ROWS_PER_QUERY), after);
  }

  /** Puts the rows that are more than they came as into `after`. */
  async #rereadSome(schema: TableSchema, rows: readonly LostRow[], after: Map<ChangeEvent, RowJson>): Promise<void> {
    const key = schema.key.map((name) => schema.columns.find((column) => column.name === name) as ColumnSchema);
    const mayBeLost = schema.columns.filter(({ name, typeOid }) => losesSpecialNumbers(typeOid) && !schema.key.includes(name));
    const keys = `[${rows.map(({ event }) => event.key).join(",")}]`;
    const whole = !rows.every(({ numbers }) => numbers.decoder.mayBeNull(numbers));
    let columns = mayBeLost;
    const found = await this.#tables.ask<readonly Found[] | null>(schema, (table) => {
      columns = mayBeLost.filter(({ attnum }) => table.columns.has(attnum));
      if (columns.length === 0) return null;
      if (!key.every(({ attnum }) => table.columns.has(attnum))) throw numberLost(schema, "a column of its key is gone");
      return rereadQuery({ table, key, columns, keys, whole });
    });
    const byRow = new Map(found);
    const position = new Map(columns.map(({ attnum }, at) => [attnum, at]));
    for (const [n, { event, numbers }] of rows.entries()) {
      const now = byRow.get(n + 1);
      if (now === undefined && !whole) continue;
      const textOf = ({ attnum }: ColumnSchema) => now?.[position.get(attnum) ?? -1];
      const values = numbers.decoder.lostColumns(numbers).map((column) => lostValue(column, textOf(column)));
      after.set(event, numbers.decoder.restored(numbers, values));
    }
  }

  /** A row without a key cannot be looked up: NULL it was when nothing of that age in the table is special. Rejects else. */
  async #search(schema: TableSchema, rows: readonly LostRow[]): Promise<void> {
    const lost = new Set(rows.flatMap(({ numbers }) => numbers.decoder.lostColumns(numbers).map(({ attnum }) => attnum)));
    const txIds = [...new Set(rows.map(({ event }) => event.transaction.txId))];
    let columns: readonly ColumnSchema[] = [];
    const found = await this.#tables.ask<readonly boolean[]>(schema, (table) => {
      columns = schema.columns.filter(({ attnum }) => lost.has(attnum) && table.columns.has(attnum));
      return columns.length === 0 ? null : searchQuery({ table, columns, txIds });
    });
    const special = columns.find((_, at) => found?.[at] === true);
    if (special === undefined) return;
    throw numberLost(
      schema,
      `a row of this table, which has no key, holds NaN or an infinity in column ${special.name}`,
      `; or give the table a primary key; or make the column's type a domain over its own (CREATE DOMAIN), which comes as text; or write NULL or a number in its place`,
    );
  }
}

type Found = readonly [n: number, texts: readonly (string | null)[]];
