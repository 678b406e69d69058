import { expect, test } from "bun:test";
import { parseBenchOptions } from "./options.ts";
import { describe, fleetsOf, isSharedOut, spendingIn, topicsOf } from "./scale.ts";

test("partitions are shared out when each is with one router, and no router has two more than another", () => {
  expect(isSharedOut([["a 0", "a 1"], ["b 0"]], 3)).toBe(true);
  expect(isSharedOut([["a 0"], []], 1)).toBe(true); // a router without any waits for the other to die
  expect(isSharedOut([["a 0", "a 1"], ["a 1"]], 3)).toBe(false); // one that has not noticed, and a partition that nobody has
  expect(isSharedOut([["a 0", "a 1"], ["a 1"]], 2)).toBe(false);
  expect(isSharedOut([["a 0", "a 1", "b 0"], []], 3)).toBe(false); // the second has not joined yet
});

test("batches and their time are read from /metrics", () => {
  const page = [
    'cascade_router_apply_duration_seconds_bucket{replica="r",le="0.001"} 1',
    'cascade_router_apply_duration_seconds_count{replica="r"} 12',
    'cascade_router_apply_duration_seconds_sum{replica="r"} 0.25',
  ].join("\n");
  expect(spendingIn(page)).toEqual({ batches: 12, seconds: 0.25 });
  expect(spendingIn("")).toEqual({ batches: 0, seconds: 0 });
});

test("every combination is a point, and neighbours differ by their routers", () => {
  const args = [
    "--part",
    "scale",
    "--tables",
    "100,1",
    "--partitions",
    "1,16",
    "--routers",
    "8,1",
    "--latency-ms",
    "0,5",
    "--batch-rows",
    "100",
  ];
  const matrix = parseBenchOptions(args)?.scale;
  if (matrix === undefined) throw new Error("no options");
  expect(topicsOf(matrix)).toEqual([
    { tables: 1, partitions: 1 },
    { tables: 1, partitions: 16 },
    { tables: 100, partitions: 1 },
    { tables: 100, partitions: 16 },
  ]);
  expect(fleetsOf(matrix).map(({ routers, latencyMs }) => [routers, latencyMs])).toEqual([
    [1, 0],
    [8, 0],
    [1, 5],
    [8, 5],
  ]);
});

test("points have names of their own", () => {
  const point = { replicas: 1, routers: 1, tables: 1, partitions: 1, latencyMs: 0, batchRows: 5000 };
  const others = Object.keys(point).map((name) => ({ ...point, [name]: 2 }));
  expect(new Set([point, ...others].map(describe)).size).toBe(7);
  expect(describe({ ...point, routers: 4, replicas: 2, partitions: 16 })).toBe(
    "4 routers, of each of 2 replicas, 1 table of 16 partitions, 0 ms, batches of 5000",
  );
});

test("what is no list of numbers is refused", () => {
  for (const wrong of ["", "1,", "0", "1.5", "1e3", "-1", "a"])
    expect(() => parseBenchOptions(["--routers", wrong])).toThrow("--routers");
  expect(() => parseBenchOptions(["--tables", "10,100", "--part", "many-tables"])).toThrow("--tables");
  expect(parseBenchOptions(["--latency-ms", "5,0,5"])?.scale.latencyMs).toEqual([0, 5]);
});
