import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { TableSchema } from "@cascade/shared/table-schema";
import {
  batchesOf,
  batchSizes,
  comparableRows,
  TABLE_KINDS,
  type TableHistory,
  type TableKindName,
  tableHistory,
} from "@cascade/shared/testing/table-histories";
import fc from "fast-check";
import type { Replica } from "../src/replica.ts";
import { applier, REPLICA_KINDS, type ReplicaKind, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Any history, applied coalesced in any batches to a real engine, leaves what applying it event by event leaves: the source's rows. */

const RUNS: Readonly<Record<ReplicaKind, number>> = { sqlite: 200, postgres: 40, mariadb: 40, mysql: 40, duckdb: 40 };

describe.each(REPLICA_KINDS)("%s", (kind) => {
  let lab: ReplicaLab;
  let replica: Replica;
  beforeAll(async () => {
    lab = await replicaLab(kind);
    replica = await lab.open();
  });
  afterAll(() => lab.close());

  let tables = 0;
  async function rowsAfter(history: TableHistory, sizes: readonly number[]): Promise<readonly string[]> {
    const schema: TableSchema = { ...history.schema, table: `${history.schema.table}_${++tables}` };
    const { apply } = await applier(replica, schema);
    if (history.uniqueColumn !== null) {
      await lab.sql(`CREATE UNIQUE INDEX u_${tables} ON ${lab.nameOf(schema)} (${history.uniqueColumn})`);
    }
    for (const batch of batchesOf(history.events, sizes)) await apply(batch);
    const rows = comparableRows(await lab.rows(schema));
    await lab.sql(`DROP TABLE ${lab.nameOf(schema)}`);
    return rows;
  }

  test.each(Object.keys(TABLE_KINDS) as TableKindName[])("table kind %s", async (name) => {
    await fc.assert(
      fc.asyncProperty(tableHistory(name), batchSizes, async (history, sizes) => {
        const expected = comparableRows(history.rows);
        expect(await rowsAfter(history, sizes)).toEqual(expected);
        expect(await rowsAfter(history, [1])).toEqual(expected);
      }),
      { numRuns: RUNS[kind] },
    );
  });
});
