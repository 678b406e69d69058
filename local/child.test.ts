import { expect, test } from "bun:test";
import { type Child, spawnChild } from "./child.ts";
import { findProcess, processTree } from "./process-table.ts";
import { until } from "./wait.ts";

const shell = (script: string): Child => spawnChild(["sh", "-c", script]);
const says = (child: Child, text: string): Promise<boolean> => until(() => child.log().includes(text), 10_000, 10);

test("its exit status and its output are its own", async () => {
  const child = shell("echo out; echo err >&2; exit 7");
  expect(await child.exited).toEqual({ code: 7, signal: null });
  expect(child.log().split("\n").sort()).toEqual(["err", "out"]);
});

test("SIGTERM reaches its handler", async () => {
  const child = shell("trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
  expect(await says(child, "ready")).toBe(true);
  expect(await child.stop()).toEqual({ code: 3, signal: null });
  expect(child.log()).toContain("asked");
});

test("SIGKILL hits the program itself", async () => {
  const child = shell("exec sleep 1000");
  child.signal("SIGKILL");
  expect(await child.exited).toEqual({ code: null, signal: "SIGKILL" });
});

test("killTree takes what it started along, also frozen", async () => {
  const child = shell("sleep 1000 & echo started; wait");
  expect(await says(child, "started")).toBe(true);
  const rows = processTree(child.pid);
  expect(rows.length).toBe(2);
  child.freeze();
  await child.killTree();
  expect(rows.filter((row) => findProcess(row.pid) !== null)).toEqual([]);
});

test("frozen it stands still, thawed it goes on", async () => {
  const child = shell("trap 'echo asked; exit 0' USR1; echo ready; while :; do sleep 0.05; done");
  expect(await says(child, "ready")).toBe(true);
  child.freeze();
  child.signal("SIGUSR1");
  await Bun.sleep(300);
  expect(child.log()).not.toContain("asked");
  child.thaw();
  expect(await child.exited).toEqual({ code: 0, signal: null });
});
