import type { Service } from "@cascade/local/stack.ts";
import { cpuSecondsOf, peakRssBytesOf } from "@cascade/local/usage-of.ts";
import type { Ceiling } from "./ceilings/ceiling.ts";
import type { Percentiles } from "./latency.ts";
import type { Part } from "./options.ts";
import type { Scaled } from "./scale.ts";
import type { WorkloadName } from "./workloads.ts";

/** One measurement. */
export interface Figure {
  readonly part: Part;
  /** What main-db was given to do; the part says it where this is left out. */
  readonly workload?: WorkloadName;
  /** What did the work: cdc, or shard-router and its engine. */
  readonly who: string;
  readonly rows: number;
  readonly seconds: number;
  /** Of the service alone, over the measured time. */
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
  /** CPU seconds of the servers meanwhile, by name. */
  readonly servers?: Readonly<Record<string, number>>;
  /** From a commit on main-db to its being visible on the replica, ms. */
  readonly lagMs?: Percentiles;
  /** Whose yardstick it is, on the same servers in the same run: a program that does nothing else than this one's work, or a peer. */
  readonly against?: string;
  /** Of several runs: those of one run are compared with each other. */
  readonly attempt?: number;
  /** Of a fleet of routers. */
  readonly scaled?: Scaled;
  /** What else there is to say of it. */
  readonly note?: string;
}

/** How often a drained service is looked at: an error of a percent in a run of seconds; and its /status is that much of its work. */
const LOOK_MS = 20;
const LOOKS_SHARE = 0.05;
/** Nothing new for this long: something is stuck, and waiting on would hide it. */
const STUCK_MS = 120_000;

/** What a drained service tells of itself. */
export type Counting = Pick<Service<{ readonly eventsTotal: number }>, "child" | "status" | "died" | "log">;

/** PIDs by name. */
export type Processes = ReadonlyMap<string, number>;

/** The CPU seconds that processes use from now on until it is asked, by name. */
export function usageOf(processes: Processes): () => Readonly<Record<string, number>> {
  const before = [...processes].map(([name, pid]) => [name, pid, cpuSecondsOf(pid)] as const);
  return () => Object.fromEntries(before.map(([name, pid, then]) => [name, cpuSecondsOf(pid) - then]));
}

interface Draining {
  /** Done already. */
  readonly before?: number;
  readonly servers?: Processes;
}

/** From now until the service has done `rows` in all. */
export async function drain(
  part: Part,
  who: string,
  service: Counting,
  rows: number,
  { before = 0, servers = new Map() }: Draining = {},
): Promise<Figure> {
  const used = usageOf(servers);
  const pid = service.child.pid;
  const startedAt = performance.now();
  const cpuBefore = cpuSecondsOf(pid);
  let done = before;
  let movedAt = startedAt;
  let lookMs = LOOK_MS;
  while (done < rows) {
    await Promise.race([Bun.sleep(lookMs), service.died.then((error) => Promise.reject(error))]);
    const askedAt = performance.now();
    // A busy machine may take longer than a status is waited for.
    const { eventsTotal } = await service.status().catch(() => ({ eventsTotal: done }));
    const now = performance.now();
    lookMs = Math.max(LOOK_MS, Math.min((now - askedAt) / LOOKS_SHARE, 2_000));
    if (eventsTotal > done) movedAt = now;
    else if (now - movedAt > STUCK_MS) throw new Error(`${who} is stuck at ${done} of ${rows} rows:\n${service.log()}`);
    done = eventsTotal;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuSeconds = cpuSecondsOf(pid) - cpuBefore;
  return { part, who, rows: rows - before, seconds, cpuSeconds, peakRssBytes: peakRssBytesOf(pid), servers: used() };
}

/** What `who` has reached, which does nothing else than the work of `against`. */
export function ceilingFigure(part: Part, who: string, against: string, measured: Ceiling): Figure {
  return { part, who, against, ...measured };
}
