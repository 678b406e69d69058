import { afterEach, describe, expect, test } from "bun:test";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import type { RememberedTable, Replica, TableChange } from "../src/replica.ts";
import { planChange } from "../src/schema-change.ts";
import { after, applier, event, REPLICA_KINDS, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Every kind of schema change, on real engines: rows stay, and the table takes the rows of the new schema. */

const labs: ReplicaLab[] = [];
afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.close();
});

const KINDS = REPLICA_KINDS.filter((kind) => kind !== "sqlite");
const position = { commitLsn: 1n, ordinal: 0 };

/** The schema with some of its fields otherwise. */
const changed = (schema: TableSchema, change: Partial<TableSchema>): TableSchema => {
  const { id: _, ...rest } = { ...schema, ...change };
  return identifySchema(rest);
};

async function changer(lab: ReplicaLab) {
  const replica = await lab.open();
  const partition = { topic: "cascade.public.ddl", partition: 0 };
  const remembered = async (oid: number): Promise<RememberedTable> => {
    const found = (await replica.remembered()).find((table) => table.oid === oid);
    if (found === undefined) throw new Error(`table ${oid} is not remembered`);
    return found;
  };
  const change = async (...changes: readonly TableChange[]) => {
    const from = await replica.progress(partition);
    await replica.change(changes, { partition, from, to: after(from) });
  };
  const alter = async (to: TableSchema, given: Partial<Extract<TableChange, { kind: "alter" }>> = {}) => {
    const from = await remembered(to.oid);
    const steps = planChange(from.schema, to);
    await change({ kind: "alter", from, schema: to, at: position, named: to, steps, rewritten: false, empties: false, ...given });
  };
  const create = (schema: TableSchema) => change({ kind: "create", schema, at: position, named: schema, mayCreate: true });
  return { replica, remembered, change, alter, create };
}

const put = async (replica: Replica, schema: TableSchema, ...rows: readonly Record<string, unknown>[]) => {
  const { apply } = await applier(replica, schema);
  await apply(rows.map((row) => event("c", null, row as never)));
};

describe.each(KINDS)("%s replica", (kind) => {
  const lab = async (): Promise<ReplicaLab> => {
    const opened = await replicaLab(kind);
    labs.push(opened);
    return opened;
  };
  const one = tableSchema("t", { id: "integer", a: "text", b: "text" });

  test("columns are added, dropped and renamed, and rows stay", async () => {
    const l = await lab();
    const { replica, create, alter, remembered } = await changer(l);
    await create(one);
    await put(replica, one, { id: 1, a: "a", b: "b" });
    const [id, a, b] = one.columns as [never, (typeof one.columns)[0], (typeof one.columns)[0]];
    const two = changed(one, {
      columns: [
        id,
        { ...(b as object), name: "a" },
        columnSchema("n", "integer", { attnum: 4, nullable: false, missing: 7 }),
      ] as never,
    });
    expect(a).toBeDefined();
    await alter(two);
    expect((await remembered(one.oid)).schema).toEqual(two);
    expect(comparableRows(await l.rows(two))).toEqual(comparableRows([{ id: 1, a: "b", n: 7 }]));
    await put(replica, two, { id: 2, a: "x", n: 8 });
  });
});
