import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findProcess, processTable, processTree, signalProcess } from "./process-table.ts";
import { removeLeftovers } from "./run-folder.ts";
import { until } from "./wait.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "cascade-orphans-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Runs a script in a Bun of its own, outside of our care, and resolves with the first line that it prints. */
async function parentRunning(script: string): Promise<{ readonly pid: number; readonly said: string }> {
  const file = join(scratch, `parent-${Bun.hash(script).toString(36)}.ts`);
  writeFileSync(file, script);
  const parent = Bun.spawn(["bun", file], { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env } });
  for await (const chunk of parent.stdout) return { pid: parent.pid, said: new TextDecoder().decode(chunk).trim() };
  throw new Error("the parent said nothing");
}

const gone = (pids: readonly number[]): Promise<boolean> => until(() => pids.every((pid) => findProcess(pid) === null), 20_000);

test("children end when their parent is killed, one after another started, and with all they started", async () => {
  const { pid, said } = await parentRunning(`
    import { spawnChild } from "${import.meta.dir}/child.ts";
    const children = [1, 2, 3].map(() => spawnChild(["sh", "-c", "trap '' TERM; sleep 1000 & wait"], { orphanSignal: "KILL" }));
    await Bun.sleep(200);
    console.log(children.map((child) => child.pid).join(" "));
    await Bun.sleep(1e6);
  `);
  const below = said.split(" ").flatMap((child) => processTree(Number(child)).map((row) => row.pid));
  expect(below.length).toBe(6);
  signalProcess(pid, "SIGKILL");
  expect(await gone(below)).toBe(true);
});

test("a test process's servers and their data go when it is killed, frozen servers too", async () => {
  const { pid, said } = await parentRunning(`
    import { testPostgres, testReplicaPostgres } from "${import.meta.dir}/servers.ts";
    const [main, replica] = [await testPostgres(), await testReplicaPostgres()];
    replica.freeze();
    console.log(JSON.stringify([main.dir, replica.dir]));
    await Bun.sleep(1e6);
  `);
  const folders = JSON.parse(said) as readonly string[];
  const servers = processTree(pid).map((row) => row.pid);
  expect(folders.map(existsSync)).toEqual([true, true]);
  expect(servers.length).toBeGreaterThan(8);
  signalProcess(pid, "SIGKILL");
  expect(await gone(servers)).toBe(true);
  expect(await until(() => !folders.some(existsSync), 20_000)).toBe(true);
});

test("leftovers are removed only when their owner is gone", () => {
  const runs = join(scratch, "runs");
  const self = findProcess(process.pid);
  const unusedPid = Math.max(...processTable().map((row) => row.pid)) + 100_000;
  const [ours, reused, left] = [`${process.pid}-${self?.started}`, `${process.pid}-1`, `${unusedPid}-5`];
  for (const name of [ours, reused, left, "somebody-elses"]) mkdirSync(join(runs, name), { recursive: true });
  removeLeftovers(runs);
  expect(readdirSync(runs).sort()).toEqual([ours, "somebody-elses"].sort());
});
