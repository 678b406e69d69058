import { FewAtOnce } from "@cascade/shared/few-at-once";
import type { TableFilter } from "@cascade/shared/table-pattern";
import type { TableName } from "@cascade/shared/topic";
import type pg from "pg";
import { COLUMNS_SQL, FINGERPRINT_SQL, IDENTITIES_SQL, relationsSql } from "./catalog-sql.ts";
import {
  type Capture,
  type CatalogRows,
  type ColumnRow,
  type IdentityRow,
  isCaptured,
  type Relation,
  type RelationRow,
  relationsOf,
} from "./relation.ts";
import { postgresError } from "./session.ts";
import { untilVisible } from "./visibility.ts";

export type { Relation } from "./relation.ts";

const ALL = relationsSql("$1::text IS NULL OR (n.nspname = $1 AND c.relname = $2)");
const BY_OID = relationsSql("c.oid = ANY($1::oid[])");
const THERE = "SELECT oid::text AS oid FROM pg_class WHERE oid = ANY($1::oid[])";

const NEVER = new AbortController().signal;

/** Tables, keys and types as main-db's catalog has them now. */
export class Catalog {
  readonly #client: pg.Client;
  readonly capture: Capture;
  readonly #turns = new FewAtOnce(1);

  constructor(client: pg.Client, filter: TableFilter, topicPrefix: string) {
    this.#client = client;
    this.capture = { filter, prefix: topicPrefix };
  }

  /** Every relation whose rows are captured now. */
  async captured(): Promise<readonly Relation[]> {
    return relationsOf(await this.#read(ALL, [null, null]), this.capture);
  }

  /**
   * One relation by the name that the WAL uses; `absent` when no table has it now (it may be a materialized view's, or dropped).
   * @param txId asked once this transaction is visible: rejects with COMMIT_NOT_VISIBLE when it is not for long
   */
  async relation(name: TableName, txId: number | null = null): Promise<Relation | "excluded" | "absent"> {
    if (txId !== null) await this.#turns.run(() => untilVisible(this.#client, [txId], { warn: () => undefined, signal: NEVER }));
    return onlyOne(await this.#read(ALL, [name.schema, name.table]), this.capture);
  }

  /** The same, seen by the transaction that the session is in. */
  async relationInTransaction(name: TableName): Promise<Relation | "excluded" | "absent"> {
    return onlyOne(await this.#find(ALL, [name.schema, name.table]), this.capture);
  }

  /** What the catalog says of these relations, and which of them there still are, captured or not. */
  async rowsOf(oids: readonly number[]): Promise<{ readonly rows: CatalogRows; readonly there: ReadonlySet<number> }> {
    const rows = await this.#read(BY_OID, [oids], true);
    const there = await this.#inOneSnapshot(() => this.#query<{ readonly oid: string }>(THERE, [oids]));
    return { rows, there: new Set(there.map(({ oid }) => Number(oid))) };
  }

  /** Another text whenever any table's definition, key or place in a partition tree has changed. */
  fingerprint(): Promise<string> {
    return this.#inOneSnapshot(async () => {
      const [row] = await this.#query<{ readonly fingerprint: string }>(FINGERPRINT_SQL, []);
      return row?.fingerprint ?? "";
    });
  }

  /** Several queries that see the same catalog, one such group after the other. */
  #inOneSnapshot<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(async () => {
      try {
        await this.#client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        const result = await work();
        await this.#client.query("COMMIT");
        return result;
      } catch (error) {
        // A lost connection has ended it already.
        await this.#client.query("ROLLBACK").catch(() => undefined);
        throw postgresError(error, "cannot read main-db's catalog");
      }
    });
  }

  #read(relationsText: string, values: unknown[], all = false): Promise<CatalogRows> {
    return this.#inOneSnapshot(() => this.#find(relationsText, values, all));
  }

  /** @param all also of those that are not captured */
  async #find(relationsText: string, values: unknown[], all = false): Promise<CatalogRows> {
    const relations = await this.#query<RelationRow>(relationsText, values);
    const wanted = relations.filter((row) => all || isCaptured(this.capture, row));
    if (wanted.length === 0) return { relations, columns: [], identities: [] };
    const oids = [...new Set(wanted.flatMap((row) => [row.oid, row.root_oid]))];
    const columns = await this.#query<ColumnRow>(COLUMNS_SQL, [oids]);
    return { relations, columns, identities: await this.#query<IdentityRow>(IDENTITIES_SQL, [oids]) };
  }

  async #query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
    return (await this.#client.query<Row>(text, values)).rows;
  }
}

const onlyOne = (rows: CatalogRows, capture: Capture): Relation | "excluded" | "absent" =>
  relationsOf(rows, capture)[0] ?? (rows.relations.length > 0 ? "excluded" : "absent");
