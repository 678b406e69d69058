import { readdirSync, readFileSync } from "node:fs";

export interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  /** Tells a process from a later one with the same pid. */
  readonly started: string;
}

/** Every live process; the dead that nobody has reaped are left out. */
export function processTable(): readonly ProcessRow[] {
  return process.platform === "linux" ? linuxTable() : portableTable();
}

/** The process and everything below it, parents before their children; empty when it is gone. */
export function processTree(root: number): readonly ProcessRow[] {
  const rows = processTable();
  const tree = rows.filter((row) => row.pid === root);
  for (const parent of tree) tree.push(...rows.filter((row) => row.parent === parent.pid && row.pid !== parent.pid));
  return tree;
}

export function isAlive(row: ProcessRow): boolean {
  return findProcess(row.pid)?.started === row.started;
}

export function findProcess(pid: number): ProcessRow | null {
  if (process.platform === "linux") return linuxRow(String(pid));
  return portableTable().find((row) => row.pid === pid) ?? null;
}

/** Signals a process that may already be gone. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function linuxTable(): readonly ProcessRow[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => linuxRow(pid) ?? []);
}

function linuxRow(pid: string): ProcessRow | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return null;
  }
  // proc(5): the second field is the command in parentheses and may itself hold spaces and parentheses.
  const [state, parent, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (state === "Z" || state === "X") return null;
  return { pid: Number(pid), parent: Number(parent), started: rest[17] ?? "" };
}

function portableTable(): readonly ProcessRow[] {
  const { stdout } = Bun.spawnSync(["ps", "-A", "-o", "pid=,ppid=,state=,lstart="]);
  return stdout
    .toString()
    .split("\n")
    .flatMap((line) => {
      const [pid, parent, state, ...started] = line.trim().split(/\s+/);
      if (!pid || !state || state.startsWith("Z")) return [];
      return [{ pid: Number(pid), parent: Number(parent), started: started.join("-") }];
    });
}
