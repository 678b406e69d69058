import { expect, test } from "bun:test";
import { adviceOf, type DemoMoment, screenOn, troubleOf, verdictTable } from "./demo-screen.ts";
import type { CdcStatus, RouterStatus } from "./service-status.ts";

const cdc: CdcStatus = {
  service: "cdc",
  version: "1.0.0",
  ready: true,
  reasons: [],
  state: "streaming",
  slot: null,
  lagSeconds: 0.01,
  eventsTotal: 1234,
  publishedBytesTotal: 99,
  snapshots: [],
  lastError: null,
};
const router: RouterStatus = {
  service: "shard-router",
  version: "1.0.0",
  replica: "postgres",
  dialect: "postgres",
  ready: true,
  reasons: [],
  findings: [],
  eventsTotal: 1200,
  lagMs: { p50: 12.3, p99: 45, max: 99 },
  lagEvents: 34,
  tables: [],
  partitions: [],
  lastError: null,
};
const moment: DemoMoment = {
  seconds: 2.2,
  phase: "running",
  written: 1250,
  cdc,
  routers: [
    { name: "postgres", status: router },
    { name: "sqlite", status: null },
  ],
};

function fakeOutput(isTTY: boolean): { readonly stream: NodeJS.WriteStream; text(): string } {
  let written = "";
  const write = (text: string): boolean => {
    written += text;
    return true;
  };
  return { stream: { isTTY, columns: 100, write } as unknown as NodeJS.WriteStream, text: () => written };
}

test("without a terminal a moment is one line", () => {
  const { stream, text } = fakeOutput(false);
  screenOn(stream).show(moment);
  expect(text()).toBe(
    "  2 s running: written 1,250 | captured 1,234, published 1,234 | postgres: applied 1,200, lag p50 12 ms p99 45 ms | " +
      "sqlite: applied -, lag p50 - p99 - (does not answer)\n",
  );
});

test("in a terminal it is a block, redrawn in place, and what is said stays above", () => {
  const { stream, text } = fakeOutput(true);
  const screen = screenOn(stream);
  screen.show(moment);
  const first = text();
  expect(first.split("\n").every((line) => line.length < 100)).toBe(true);
  expect(first).toContain("1,200           34        12 ms        45 ms");
  const lines = first.split("\n").length - 1;
  screen.show(moment);
  expect(text().slice(first.length)).toStartWith(`\x1b[${lines}A\x1b[J`);
  const second = text();
  screen.say("stays");
  screen.show(moment);
  expect(text().slice(second.length)).toStartWith(`\x1b[${lines}A\x1b[Jstays\n\n`);
});

test("trouble is the held table's own words before all else", () => {
  expect(troubleOf(router)).toBeNull();
  const error = { code: "X", message: "column a is missing", advice: "add it", topic: "c.public.t", partition: 0, offset: null };
  const held: RouterStatus = {
    ...router,
    ready: false,
    reasons: ["a table is held"],
    tables: [{ table: "public.t", state: "held", awaitsCopy: false, error, heldKeys: 0 }],
  };
  expect(troubleOf(held)).toBe("public.t is held: column a is missing");
  expect(adviceOf(held)).toEqual(["add it"]);
  expect(troubleOf({ ...cdc, ready: false, reasons: ["Kafka is away"] })).toBe("Kafka is away");
});

test("the verdict names every table", () => {
  const tables = [
    { table: "public.t", rows: 12_000, missing: 0, extra: 0, different: 0 },
    { table: "public.u", rows: 5, missing: 1, extra: 0, different: 0, firstDifference: 'missing: id = "7"' },
  ];
  expect(verdictTable([{ name: "pg", tables }]).split("\n")).toEqual([
    "replica  table       rows  missing  extra  different",
    "pg       public.t  12,000        0      0          0  equal",
    'pg       public.u       5        1      0          0  NOT EQUAL: missing: id = "7"',
  ]);
});
