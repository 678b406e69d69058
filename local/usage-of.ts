import { readFileSync } from "node:fs";
import { processTree } from "./process-table.ts";

/** Ticks of /proc/PID/stat per second: Linux's USER_HZ, the same on every architecture it runs on. */
const TICKS_PER_SECOND = 100;

/** CPU seconds that a process and everything below it have used so far, those below that have ended among them. Linux only; 0 elsewhere. */
export function cpuSecondsOf(pid: number): number {
  return processTree(pid).reduce((sum, row) => sum + cpuSeconds(row.pid), 0);
}

function cpuSeconds(pid: number): number {
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  // utime, stime, and both of children that have ended and were waited for; proc(5).
  return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at] ?? 0), 0) / TICKS_PER_SECOND;
}

/** Most memory that the process has had resident at once, bytes. Linux only; 0 elsewhere. */
export function peakRssBytesOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // ended, or another system
  }
}
