import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { WireRow, WireValue } from "@cascade/shared/change-event";
import { partOf } from "@cascade/shared/key-parts";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { ShardClaim } from "../src/claim-shard.ts";
import { type PartRow, PartRows } from "../src/dialects/part-rows.ts";
import { Ownership } from "../src/ownership.ts";
import { pendingText } from "../src/pending-claim.ts";
import type { Replica } from "../src/replica.ts";
import { parseShardRules } from "../src/shard-rules.ts";
import { applier, event, REPLICA_KINDS, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Rows are read from every engine as main-db writes them, page by page, and those that are named are dropped, and no others. */

interface TypeCase {
  readonly type: string;
  readonly typeOid?: number;
  readonly values: readonly WireValue[];
}

/** Those by which a table can be divided, with the values that an engine may write otherwise. */
const DIVIDING: readonly TypeCase[] = [
  { type: "boolean", values: [true, false] },
  { type: "smallint", values: [-3, 0, 7] },
  { type: "integer", values: [-2_147_483_648, 0, 2_147_483_647] },
  { type: "bigint", values: ["-9223372036854775808", "0", "9007199254740993", "9223372036854775807"] },
  { type: "oid", values: ["0", "4294967295"] },
  { type: "numeric", values: ["-0.5", "0", "1.50", "100", "12345678901234567890.123456789"] },
  { type: "numeric(10,2)", values: ["-0.50", "0.00", "1.50", "100.00"] },
  { type: "text", values: ["", " ", "a", "A", "ä", "é", "日本", "\ufeffbom", "it's", "a\u001fb", "\\", "名 ", "x".repeat(300)] },
  { type: "character varying(20)", values: ["", "a", "A ", "ß"] },
  { type: "name", values: ["a", "B"] },
  { type: '"char"', values: ["a", "B"] },
  { type: "uuid", values: ["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"] },
  { type: "date", values: ["2026-01-01", "0001-12-31", "0044-03-15 BC", "infinity", "12026-02-03"] },
  { type: "time without time zone", values: ["00:00:00", "12:30:00.5", "23:59:59.999999", "24:00:00"] },
  {
    type: "timestamp without time zone",
    values: ["2026-01-01 00:00:00", "2026-01-01 10:00:00.5", "0044-03-15 12:00:00 BC", "infinity"],
  },
  {
    type: "timestamp with time zone",
    values: ["2026-01-01 00:00:00+00", "2026-01-01 10:00:00.123456+00", "0044-03-15 12:00:00+00 BC", "-infinity"],
  },
  { type: "macaddr", typeOid: 829, values: ["08:00:2b:01:02:03"] },
  { type: "public.mood", typeOid: 16_999, values: ["so so", 'it\'s "ok"'] },
];
/** By which a row may be found, besides. */
const OTHER_KEYS: readonly TypeCase[] = [
  { type: "bytea", values: ["", "AAEC", "/w=="] },
  { type: "double precision", values: [0.1, 1e300, 5, -2.5] },
  { type: "real", values: [0.1, 16_777_216, -2.5] },
  { type: "character(5)", typeOid: 1042, values: ["a    ", "b    "] },
  { type: "interval", typeOid: 1186, values: ["1 year -2 mons +3 days 04:05:06.789", "00:00:00"] },
];

const RULES = parseShardRules("public.*=v");
let tables = 0;

function schemaOf({ type, typeOid }: TypeCase, key: readonly string[], nullable: boolean): TableSchema {
  const known = typeOid === undefined ? type : "text";
  const schema = tableSchema(`p${++tables}`, { id: "integer", v: known, w: "integer" }, { key, identity: "full" });
  const columns = schema.columns.map((column) =>
    column.name !== "v" ? column : { ...column, nullable, type, typeOid: typeOid ?? column.typeOid, typmod: typmodOf(type) },
  );
  return { ...schema, columns };
}

/** As pg_attribute has it. */
function typmodOf(type: string): number {
  const [precision, scale] = /\((\d+)(?:,(\d+))?\)$/.exec(type)?.slice(1) ?? [];
  if (precision === undefined) return -1;
  return scale === undefined ? Number(precision) + 4 : Number(precision) * 65_536 + Number(scale) + 4;
}

async function pages(replica: Replica, rows: PartRows, limit: number): Promise<readonly PartRow[]> {
  const found: PartRow[] = [];
  for (let after: PartRow | null = null; ; after = found.at(-1) ?? null) {
    const page = (await replica.parts.rows(rows.page(after, limit))).map((row) => rows.read(row));
    found.push(...page);
    if (page.length < limit) return found;
    expect(found.length).toBeLessThan(1_000);
  }
}

const given = (values: readonly WireValue[]): readonly WireRow[] =>
  [...values, ...values].map((v, at) => ({ id: at, v, w: at % 3 }));

describe.each(REPLICA_KINDS)("%s", (kind) => {
  let lab: ReplicaLab;
  let replica: Replica;
  beforeAll(async () => {
    lab = await replicaLab(kind);
    replica = await lab.open();
  });
  afterAll(async () => {
    await lab.close();
  });

  const filled = async (schema: TableSchema, rows: readonly WireRow[]) => {
    const { table, apply } = await applier(replica, schema);
    await apply(rows.map((row, at) => ({ ...event("c", null, row), ordinal: at })));
    return table;
  };
  const drop = (rows: PartRows, gone: readonly PartRow[]): Promise<void> => {
    const statements = rows.drop(gone);
    return replica.settle({ statements, inOrder: () => statements, holds: [] }, { topic: "test", partition: 0 });
  };
  const ids = async (schema: TableSchema): Promise<readonly number[]> =>
    (await lab.sql(`SELECT id FROM ${lab.nameOf(schema)}`)).map((row) => Number(row["id"])).toSorted((a, b) => a - b);

  test.each(DIVIDING.map((one) => [one.type, one] as const))("%s: read as it is written, dropped by it", async (_, one) => {
    for (const key of [["id"], []]) {
      const schema = schemaOf(one, key, true);
      const values = [...one.values, null];
      const all = given(values);
      const table = await filled(schema, all);
      const rows = new PartRows(replica.dialect.name, table, ["v"]);
      const found = await pages(replica, rows, 2);
      expect(found.reduce((sum, { count }) => sum + count, 0)).toBe(all.length);
      // Whose a row is by what was read is whose it is by what came.
      const share = new Ownership({ index: 0, count: 1_000 }, RULES);
      const sorted = (texts: readonly string[]) => texts.toSorted();
      const numberOf = (row: WireRow): string => String(within(1_000).find((index) => owned(schema, row, index)));
      expect(share.of(schema)?.columns).toEqual(["v"]);
      expect(sorted(found.flatMap(({ wire, count }) => Array.from({ length: count }, () => numberOf(wire))))).toEqual(
        sorted(all.map(numberOf)),
      );
      // The empty text and NULL are one to the hash.
      const distinct = [...new Set(values.map((v) => numberOf({ v })))];
      for (const [nth, number] of distinct.entries()) {
        await drop(
          rows,
          found.filter(({ wire }) => numberOf(wire) === number),
        );
        const left = all.filter((row) => distinct.indexOf(numberOf(row)) > nth).map(({ id }) => Number(id));
        expect(await ids(schema)).toEqual(left);
      }
    }
  });

  test.each([...DIVIDING, ...OTHER_KEYS].map((one) => [one.type, one] as const))(
    "%s: a key by which rows are found",
    async (_, one) => {
      // As a key a text has a length on MySQL.
      const values = one.values.filter((value) => String(value).length < 300);
      const schema = schemaOf(one, ["w", "v"], false);
      const all = values.flatMap((v, at) => [0, 1].map((w) => ({ id: 2 * at + w, v, w })));
      const table = await filled(schema, all);
      const rows = new PartRows(replica.dialect.name, table, ["w"]);
      for (const limit of [1, 3, 100]) expect((await pages(replica, rows, limit)).length).toBe(all.length);
      await drop(
        rows,
        (await pages(replica, rows, 2)).filter(({ wire }) => wire["w"] === "1"),
      );
      expect(await ids(schema)).toEqual(values.map((_value, at) => 2 * at));
    },
  );

  test("what has changed since it was read stays", async () => {
    const one: TypeCase = { type: "text", values: ["a", "b", "c"] };
    const schema = schemaOf(one, ["id"], true);
    const { table, apply } = await applier(replica, schema);
    const [first, second, third] = one.values.map((v, id) => ({ id, v, w: 0 })) as unknown as [WireRow, WireRow, WireRow];
    await apply([event("c", null, first), event("c", null, second), event("c", null, third)]);
    const rows = new PartRows(replica.dialect.name, table, ["v"]);
    const found = await pages(replica, rows, 10);
    await apply([
      event("u", first, { ...first, v: "d" }),
      event("u", second, { ...second, v: null }),
      event("u", third, { ...third, w: 5 }),
    ]);
    await drop(rows, found);
    expect(await ids(schema)).toEqual([0, 1]);
  });

  test("a part is given up once, and every router's view of the tables with it", async () => {
    const schema = schemaOf({ type: "text", values: [] }, ["id"], true);
    const partition = { topic: "cascade.public.revised", partition: 0 };
    const to = { nextOffset: 1n, commitLsn: 1n, ordinal: 0, sourceCommittedAtMs: 0 };
    await replica.change([{ kind: "create", schema, at: { commitLsn: 0n, ordinal: 0 }, named: schema, mayCreate: true }], {
      partition,
      from: null,
      to,
    });
    const [before] = await replica.remembered([schema.oid]);
    const held = await replica.claim("0/2");
    expect(await replica.parts.read()).toEqual({ part: held, before: null });
    expect(await replica.parts.narrow("7/8", "7/16")).toBe(false);
    expect(await replica.parts.narrow(held, "0/4")).toBe(true);
    expect(await replica.parts.read()).toEqual({ part: "0/4", before: held });
    expect(await replica.claim("0/2")).toBe("0/4");
    const stale = replica.apply(
      { statements: [], inOrder: () => [], tables: before === undefined ? [] : [before] },
      { partition, from: to, to },
    );
    expect(await stale.catch((error: unknown) => (error as { code: string }).code)).toBe("FENCED");
    // Not another part before the rest of the first is gone.
    expect(await replica.parts.narrow("0/4", "0/8")).toBe(false);
    expect(await replica.parts.read()).toEqual({ part: "0/4", before: held });
    await replica.parts.finish("another");
    expect((await replica.parts.read()).before).toBe(held);
    await replica.parts.finish(held);
    expect(await replica.parts.read()).toEqual({ part: "0/4", before: null });
    expect(await replica.parts.narrow("0/4", "0/8")).toBe(true);

    // While another part is claimed it has none, and whoever knew of a table knows nothing of it any more.
    const [known] = await replica.remembered([schema.oid]);
    const pending = pendingText({ from: "0/8", to: "0/8 public.u=é" });
    expect(await replica.parts.pend("0/4", pending)).toBe(false);
    expect((await replica.remembered([schema.oid]))[0]?.revision).toBe(known?.revision ?? -1);
    expect(await replica.parts.pend("0/8", pending)).toBe(true);
    expect((await replica.remembered([schema.oid]))[0]?.revision).toBe((known?.revision ?? -1) + 1);
    expect(await replica.parts.read()).toEqual({ part: null, before: "0/4" });
    expect(await replica.claim("0/8")).toBe(pending);
    await new ShardClaim(replica, Ownership.parse("0/8 public.u=é")).claim();
    expect(await replica.parts.read()).toEqual({ part: "0/8 public.u=é", before: "0/4" });
  });
});

const within = (count: number): readonly number[] => Array.from({ length: count }, (_, at) => at);
const numbers = new Map<number, Ownership>();
function owned(schema: TableSchema, row: WireRow, index: number): boolean {
  let ownership = numbers.get(index);
  if (ownership === undefined) {
    ownership = new Ownership({ index, count: 1_000 }, RULES);
    numbers.set(index, ownership);
  }
  return ownership.of(schema)?.owns(row) === true;
}

test("the hash is what it was", () => expect(partOf("a", 1_000)).toBe(0x0cc175b9 % 1_000));
