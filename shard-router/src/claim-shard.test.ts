import { expect, test } from "bun:test";
import type { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { changed } from "../test/table-changer.ts";
import { ShardClaim } from "./claim-shard.ts";
import { Ownership } from "./ownership.ts";
import { pendingText, readPending } from "./pending-claim.ts";
import type { RememberedTable, Replica } from "./replica.ts";

const t = tableSchema("t", { id: "integer", region: "text" }, { identity: "full" });
const u = changed(tableSchema("u", { id: "integer", region: "text" }, { identity: "full" }), { oid: 17_500 });

/** Remembers a claim and tables, which another may change between two questions. */
class Remembering implements Pick<Replica, "claim" | "remembered"> {
  tables: RememberedTable[] = [];
  held: string | null;
  beforeWriting: () => void = () => undefined;

  constructor(held: string | null, ...schemas: readonly TableSchema[]) {
    this.held = held;
    for (const schema of schemas) this.add(schema);
  }

  add(schema: TableSchema, awaiting: string | null = null): void {
    this.tables.push({ ...{ oid: schema.oid, schema, named: schema, revision: 1, awaiting }, at: { commitLsn: 1n, ordinal: 0 } });
  }

  async claim(wanted: string, instead?: string): Promise<string> {
    if (this.held === null || this.held === instead) this.held = wanted;
    return this.held;
  }

  readonly parts = {
    pend: async (part: string, pending: string): Promise<boolean> => {
      this.beforeWriting();
      if (this.held !== part) return false;
      this.held = pending;
      this.tables = this.tables.map((table) => ({ ...table, revision: table.revision + 1 }));
      return true;
    },
  };

  remembered: () => Promise<readonly RememberedTable[]> = async () => [...this.tables];
}

const claimOf = (replica: Remembering, rules: string) => new ShardClaim(replica, Ownership.parse(rules));
const refusal = async (act: Promise<void>): Promise<CascadeError | null> => act.then(() => null).catch((error) => error);

const allowed: readonly (readonly [from: string, to: string, tables: readonly TableSchema[]])[] = [
  // A rule for a table that is not there yet.
  ["0/2", "0/2 public.new=region", [t, u]],
  ["0/2 public.t=region", "0/2 public.t=region, public.new=*", [t, u]],
  // The same said otherwise.
  ["0/2 public.t=id", "0/2", [t, u]],
  ["0/1", "", [t]],
  // Nothing that is divided is there.
  ["0/2", "1/3", []],
  ["0/2 public.*=*", "1/3 public.*=*", [t, u]],
  ["", "0/2 public.*=*", [t, u]],
  // Of a table that could not be divided nothing was taken.
  ["0/2 public.t=nothing", "0/2 public.t=region", [t, u]],
];
test.each(allowed)("from %p to %p is the same of every table that is there, and is remembered", async (from, to, tables) => {
  const replica = new Remembering(from, ...tables);
  await claimOf(replica, to).claim();
  expect(replica.held).toBe(to);
});

const refused: readonly (readonly [from: string, to: string, told: string])[] = [
  ["0/2", "1/2", "other rows of public.t, public.u would"],
  ["0/2", "0/3", "other rows of public.t, public.u would"],
  [
    "0/2",
    "",
    'the part "0/2", and ROUTER_SHARD and ROUTER_SHARD_KEYS say all of main-db: other rows of public.t, public.u would',
  ],
  ["", "0/2 public.u=*", "holds all of main-db, and ROUTER_SHARD and ROUTER_SHARD_KEYS say the part"],
  ["0/2", "0/2 public.u=region", "other rows of public.u would"],
  ["0/2 public.t=*", "1/2 public.t=*", "other rows of public.u would"],
  ["0/2 public.t=region", "0/2 public.t=nothing", "other rows of public.t would"],
  ["public.t=id:1..2", "public.t=id:1|2", "other rows of public.t would"],
  ["0/2 public.t=what/another|version:reads", "0/2", 'the part "0/2 public.t=what'],
];
test.each(refused)("from %p to %p is refused, and nothing else remembered: %s", async (from, to, told) => {
  const replica = new Remembering(from, t, u);
  expect(await refusal(claimOf(replica, to).claim())).toMatchObject({ code: "SHARD_CHANGED", verdict: "refuse" });
  expect((await refusal(claimOf(replica, to).check()))?.message).toContain(told);
  expect(replica.held).toBe(from);
});

test("a table that waits for its copy may be divided otherwise: what is in it goes when that begins", async () => {
  const replica = new Remembering("0/2");
  replica.add(t, "copy");
  await claimOf(replica, "0/2 public.t=region").claim();
  expect(replica.held).toBe("0/2 public.t=region");
});

test("who only checks leaves what is remembered", async () => {
  const replica = new Remembering("0/2 public.t=id", t);
  await claimOf(replica, "0/2").check();
  expect(replica.held).toBe("0/2 public.t=id");
});

test("of two that claim at once the second compares with what the first has written", async () => {
  const replica = new Remembering("0/2", t);
  replica.beforeWriting = () => {
    replica.beforeWriting = () => undefined;
    replica.held = "0/2 public.u=region";
    replica.add(u);
  };
  expect(await refusal(claimOf(replica, "0/2 public.u=*").claim())).toMatchObject({ code: "SHARD_CHANGED" });
  expect(replica.held).toBe("0/2 public.u=region");
});

test("a table that is made by the old rules while the new are claimed takes the claim back", async () => {
  const replica = new Remembering("0/2", t);
  replica.beforeWriting = () => {
    replica.beforeWriting = () => undefined;
    replica.add(u);
  };
  expect((await refusal(claimOf(replica, "0/2 public.u=*").claim()))?.message).toContain("other rows of public.u would");
  expect(replica.held).toBe("0/2");
});

test("of two that claim the same, the one that looks at the tables late does not take the other's word back", async () => {
  const replica = new Remembering("0/4");
  const [slow, quick] = [claimOf(replica, "0/2"), claimOf(replica, "0/2")];
  replica.remembered = async () => {
    if (readPending(replica.held ?? "") === null) return [...replica.tables];
    replica.remembered = async () => [...replica.tables];
    await quick.claim();
    replica.add(t); // by rules that are the replica's by now
    await quick.agree(t, 1);
    return [...replica.tables];
  };
  await slow.claim();
  expect(replica.held).toBe("0/2");
});

test("a claim whose router has died is settled by whoever comes next, whatever its own rules are", async () => {
  const dead = pendingText({ from: "0/2", to: "0/4" });
  for (const tables of [[], [t]]) {
    const replica = new Remembering(dead, ...tables);
    await claimOf(replica, tables.length === 0 ? "0/4" : "0/2").claim();
    expect(replica.held).toBe(tables.length === 0 ? "0/4" : "0/2");
    replica.held = dead;
    const other = await refusal(claimOf(replica, tables.length === 0 ? "0/2" : "0/4").agree(t, 1));
    expect(other).toMatchObject({ code: "SHARD_CHANGED" });
    expect(replica.held).toBe(tables.length === 0 ? "0/4" : "0/2");
  }
});

test("a router goes on beside others with other rules, up to a table of which they say something else", async () => {
  const replica = new Remembering("0/2", t);
  const claim = claimOf(replica, "0/2");
  await claim.claim();
  await claimOf(replica, "0/2 public.u=region").claim();
  await claim.agree(t, 1);
  expect(await refusal(claim.agree(u, 1))).toMatchObject({ code: "SHARD_CHANGED", message: expect.stringContaining("public.u") });
  expect(replica.held).toBe("0/2 public.u=region");
});

test("a table that the replica's rules cannot divide is filled by no others, which they may be mended to", async () => {
  const replica = new Remembering("0/2");
  const old = claimOf(replica, "0/2");
  await old.claim();
  await claimOf(replica, "0/2 public.t=regoin").claim();
  expect(await refusal(old.agreeToBring(t))).toMatchObject({ code: "SHARD_CHANGED" });
  expect(await refusal(old.agree(t, 1))).toMatchObject({ code: "SHARD_CHANGED" });
  // Its own rules stop it where it takes rows.
  await claimOf(replica, "0/2 public.t=regoin").agree(t, 1);
});

test("what a router has decided about tables before others claim the replica is of no account after it", async () => {
  const replica = new Remembering("0/2", t);
  const revision = () => replica.tables[0]?.revision;
  await claimOf(replica, "0/2").claim();
  expect(revision()).toBe(1);
  await claimOf(replica, "0/2 public.u=region").claim();
  expect(revision()).toBe(2);
});

test("a router whose part was made smaller is told at the tables' next revision, one that holds everything too", async () => {
  for (const held of ["0/2", ""]) {
    const replica = new Remembering(held, t);
    const claim = claimOf(replica, held);
    await claim.claim();
    await claim.agree(t, 1);
    replica.held = "0/4";
    await claim.agree(t, 1); // what it writes for that revision is fenced
    expect(await refusal(claim.agree(t, 2))).toMatchObject({ code: "SHARD_CHANGED", advice: expect.stringContaining("reshard") });
  }
});
