import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { stateFolder } from "./paths.ts";
import { findProcess } from "./process-table.ts";
import { serverFolder, serverUser } from "./server-user.ts";

/** A folder for this process's servers, below `.cascade/<kind>`. Those of earlier processes that are gone are removed. */
export function makeRunFolder(kind: string): string {
  const runs = serverFolder(join(stateFolder, kind), serverUser());
  removeLeftovers(runs);
  return serverFolder(join(runs, runName(process.pid) ?? String(process.pid)), serverUser());
}

/** Names the owner for good: a pid alone comes back. */
function runName(pid: number): string | null {
  const owner = findProcess(pid);
  return owner === null ? null : `${pid}-${owner.started}`;
}

/** Removes what earlier runs left, when their owner is gone. */
export function removeLeftovers(runs: string): void {
  if (!existsSync(runs)) return;
  for (const name of readdirSync(runs)) {
    const pid = Number(name.split("-")[0]);
    if (Number.isInteger(pid) && runName(pid) !== name) rmSync(join(runs, name), { recursive: true, force: true, maxRetries: 3 });
  }
}
