import { expect, test } from "bun:test";
import { WAITING } from "@cascade/cdc/src/snapshot/copy-job.ts";
import { encodeState } from "@cascade/cdc/src/snapshot/signals.ts";
import { runningOf } from "@cascade/shard-router/src/kafka/copy-states.ts";

test("copies that cdc has not ended are told from all else that is said there", () => {
  const job = {
    ...{ request: "r", oid: 7, name: { schema: "public", table: "t" }, replica: "east" },
    range: { from: null, to: null, where: null },
  };
  const of = (status: typeof WAITING.status) => runningOf(encodeState(job, { ...WAITING, status }));
  expect([of("waiting"), of("copying")]).toEqual([[{ oid: 7, replica: "east" }], [{ oid: 7, replica: "east" }]]);
  expect([of("done"), of("failed"), of("left")]).toEqual([[], [], []]);
  expect([runningOf('{"type":"snapshot","tables":["*.*"]}'), runningOf("no JSON"), runningOf("7")]).toEqual([[], [], []]);
});
