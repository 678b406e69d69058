import { expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type Child, spawnChild } from "@cascade/local/child.ts";
import { repository, stateFolder } from "@cascade/local/paths.ts";
import { processTree } from "@cascade/local/process-table.ts";
import { until } from "@cascade/local/wait.ts";

function startDemo(...args: readonly string[]): Child {
  return spawnChild([process.execPath, join(repository, "local/demo.ts"), ...args], { cwd: repository });
}

/** Data folders of demos that were started by us. */
function folders(pid: number): readonly string[] {
  const runs = join(stateFolder, "demo");
  return existsSync(runs) ? readdirSync(runs).filter((name) => name.startsWith(`${pid}-`)) : [];
}

test("runs, shows the replicas following, finds them equal, and leaves nothing", async () => {
  const demo = startDemo("--seconds", "3", "--rate", "300");
  expect(await until(() => demo.log().includes("Running after"), 90_000)).toBe(true);
  const below = processTree(demo.pid).length;
  expect(below).toBeGreaterThan(6);
  expect({ ...(await demo.exited), log: demo.log() }).toMatchObject({ code: 0 });
  expect(demo.log()).toMatch(
    /running: written \d.*captured [\d,]+, published [\d,]+ \| postgres: applied [\d,]+, lag p50 [\d,]+ ms p99 [\d,]+ ms/,
  );
  expect(demo.log()).toMatch(/postgres +public\.orders +[1-9]\d* +0 +0 +0 +equal/);
  expect(demo.log()).toMatch(/sqlite +public\.audit +\d+ +0 +0 +0 +equal/);
  expect(demo.log()).toContain("Equal: every table of every replica");
  expect(folders(demo.pid)).toEqual([]);
}, 120_000);

test("is ended by an interrupt, and tells a service that died", async () => {
  const [interrupted, bereaved] = [startDemo(), startDemo("--replica", "sqlite:/nowhere/at/all.db")];
  expect(await until(() => interrupted.log().includes("running: written"), 90_000)).toBe(true);
  interrupted.signal("SIGINT");
  expect(await interrupted.exited).toEqual({ code: 0, signal: null });
  expect((await bereaved.exited).code).toBe(1);
  expect(bereaved.log()).toContain("shard-router sqlite ended before it was ready (status 78). Its last log lines:");
  for (const { pid } of [interrupted, bereaved]) expect(folders(pid)).toEqual([]);
}, 120_000);
