import { afterEach, beforeEach, expect, test } from "bun:test";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { ShardClaim } from "../src/claim-shard.ts";
import { Ownership } from "../src/ownership.ts";
import type { Replica } from "../src/replica.ts";
import { reshard } from "../src/reshard.ts";
import { SchemaHistory } from "../src/schema-history.ts";
import { applier, event, type ReplicaLab, replicaLab } from "./replica-labs.ts";
import { changed } from "./table-changer.ts";

/** What routers do to a replica while the command is at it. `e2e/reshard.test.ts` has the rest. */

const t = tableSchema("t", { id: "integer" });
const u = changed(tableSchema("u", { id: "integer" }), { oid: 17_500 });
const IDS = Array.from({ length: 20 }, (_, at) => at + 1);

let lab: ReplicaLab;
beforeEach(async () => {
  lab = await replicaLab("sqlite");
});
afterEach(() => lab.close());

async function fill(replica: Replica, schema: typeof t): Promise<void> {
  const partition = { topic: `cascade.public.${schema.table}`, partition: 0 };
  const at = { commitLsn: 0n, ordinal: 0 };
  await replica.change([{ kind: "create", schema, at, named: schema, mayCreate: true }], {
    ...{ partition, from: null, to: { nextOffset: 0n, ...at, sourceCommittedAtMs: 0 } },
  });
  const { apply } = await applier(replica, schema);
  await apply(IDS.map((id) => event("c", null, { id })));
}

/** The command, killed after it had taken `0/2` of everything, is run again; `meanwhile` is done before rows are dropped. */
async function goingOn(
  meanwhile: (replica: Replica) => Promise<void>,
): Promise<{ readonly said: string[]; readonly replica: Replica }> {
  const replica = await lab.open();
  expect(await replica.claim("")).toBe("");
  expect(await replica.parts.narrow("", "0/2")).toBe(true);
  let isDone = false;
  const said: string[] = [];
  await reshard(
    {
      ...{ replica, name: "r", beside: [], pageRows: 7, pollMs: 1 },
      schemas: { history: new SchemaHistory(), settle: async () => undefined },
      end: async () => [],
      copies: async () => {
        if (!isDone) await meanwhile(replica);
        isDone = true;
        return [];
      },
      say: (line) => void said.push(line),
    },
    { shard: { index: 0, count: 2 }, rules: null, timeoutMs: null },
  ).catch((error: Error) => void said.push(error.message));
  return { said, replica };
}

async function idsOf(replica: Replica, table: string): Promise<readonly number[]> {
  const rows = await replica.parts.rows({ text: `SELECT id FROM "${table}" ORDER BY id`, values: [] });
  return rows.map(({ id }) => Number(id));
}

test("of a table that routers by a rule for it have filled meanwhile nothing is dropped", async () => {
  const { said, replica } = await goingOn(async (opened) => {
    await fill(opened, t);
    await new ShardClaim(opened, Ownership.parse("0/2 public.u=*")).claim();
    await fill(opened, u);
  });
  expect(await idsOf(replica, "u")).toEqual(IDS);
  expect((await idsOf(replica, "t")).length).toBeLessThan(IDS.length);
  expect(said.at(-1)).toContain('holds the part "0/2 public.u=*"');
  expect((await replica.parts.read()).before).toBeNull();
});

test.each(["", "public.x=*"])(
  "a part that was taken back, as %p, while there was no table is told, and none of its rows dropped",
  async (back) => {
    const { said, replica } = await goingOn(async (opened) => {
      await new ShardClaim(opened, Ownership.parse(back)).claim();
      await fill(opened, t);
    });
    expect(await idsOf(replica, "t")).toEqual(IDS);
    expect(said.at(-1)).toContain("has taken all of main-db back");
  },
);
