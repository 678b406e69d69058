import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import type { RememberedTable, Replica, TableChange } from "../src/replica.ts";
import { planChange } from "../src/schema-change.ts";
import { after, type ReplicaLab } from "./replica-labs.ts";

type Alter = Extract<TableChange, { kind: "alter" }>;

/** Changes a replica's tables as the router does, without Kafka. */
export interface Changer {
  readonly lab: ReplicaLab;
  readonly replica: Replica;
  remembered(oid: number): Promise<RememberedTable>;
  change(...changes: readonly TableChange[]): Promise<void>;
  create(schema: TableSchema, mayCreate?: boolean): Promise<void>;
  /** From what it is like to `to`, by the plan. */
  alter(to: TableSchema, given?: Partial<Alter>): Promise<void>;
}

/** The schema with some of its fields otherwise. */
export function changed(schema: TableSchema, change: Partial<TableSchema>): TableSchema {
  const { id: _, ...rest } = { ...schema, ...change };
  return identifySchema(rest);
}

export const changer = async (lab: ReplicaLab): Promise<Changer> => tableChanger(lab, await lab.open());

const at = { commitLsn: 1n, ordinal: 0 };

export function tableChanger(lab: ReplicaLab, replica: Replica): Changer {
  const partition = { topic: "cascade.public.ddl", partition: 0 };
  const change = async (...changes: readonly TableChange[]) => {
    const from = await replica.progress(partition);
    await replica.change(changes, { partition, from, to: after(from) });
  };
  const remembered = async (oid: number) => {
    const found = (await replica.remembered()).find((table) => table.oid === oid);
    if (found === undefined) throw new Error(`table ${oid} is not remembered`);
    return found;
  };
  return {
    lab,
    replica,
    change,
    remembered,
    create: (schema, mayCreate = true) => change({ kind: "create", schema, at, named: schema, mayCreate }),
    alter: async (schema, given = {}) => {
      const from = await remembered(schema.oid);
      const steps = planChange(from.schema, schema);
      const { schema: source, table } = schema;
      await change({
        ...{ kind: "alter", from, schema, at, named: { schema: source, table }, steps, rewritten: false, empties: false },
        ...given,
      });
    },
  };
}
