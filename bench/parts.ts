import type { Service } from "@cascade/local/stack.ts";
import { cpuSecondsOf, peakRssBytesOf } from "@cascade/local/usage-of.ts";
import { type Lab, Trial } from "./lab.ts";
import type { BenchOptions, Part } from "./options.ts";
import { snapshot } from "./snapshot.ts";

/** One measurement. */
export interface Figure {
  readonly part: Part;
  /** What did the work: cdc, or shard-router and its engine. */
  readonly who: string;
  readonly rows: number;
  readonly seconds: number;
  /** Of the service alone, over the measured time. */
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

/** How often a drained service is looked at: an error of a percent in a run of seconds. */
const LOOK_MS = 20;
/** Nothing new for this long: something is stuck, and waiting on would hide it. */
const STUCK_MS = 60_000;

/** From now until the service has done `rows`. */
export async function drain(
  part: Part,
  who: string,
  service: Service<{ readonly eventsTotal: number }>,
  rows: number,
): Promise<Figure> {
  const pid = service.child.pid;
  const startedAt = performance.now();
  const cpuBefore = cpuSecondsOf(pid);
  let done = 0;
  let movedAt = startedAt;
  while (done < rows) {
    await Promise.race([Bun.sleep(LOOK_MS), service.died.then((error) => Promise.reject(error))]);
    const { eventsTotal } = await service.status();
    if (eventsTotal > done) movedAt = performance.now();
    else if (performance.now() - movedAt > STUCK_MS)
      throw new Error(`${who} is stuck at ${done} of ${rows} rows:\n${service.log()}`);
    done = eventsTotal;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  return { part, who, rows, seconds, cpuSeconds: cpuSecondsOf(pid) - cpuBefore, peakRssBytes: peakRssBytesOf(pid) };
}

type Run = (trial: Trial, options: BenchOptions) => Promise<readonly Figure[]>;

/** The slot's backlog, read from the moment cdc is ready. */
const capture: Run = async (trial, { rows }) => {
  await trial.makeSlot();
  await trial.insert(rows, 100);
  return [await captureBacklog(trial, "capture", rows)];
};

async function captureBacklog(trial: Trial, part: Part, rows: number): Promise<Figure> {
  await using cdc = await trial.cdc();
  await cdc.ready();
  return await drain(part, "cdc", cdc, rows);
}

/** One replica after the other, each from the first offset. */
const apply: Run = async (trial, { rows }) => {
  await trial.makeSlot();
  await trial.insert(rows, 100);
  await captureBacklog(trial, "apply", rows);
  return drainInto(trial, "apply", rows);
};

/** A figure for each engine, one after the other. */
async function drainInto(trial: Trial, part: Part, rows: number): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const engine of trial.engines) {
    const router = await trial.router(engine);
    try {
      await router.ready();
      figures.push(await drain(part, engine, router, rows));
    } finally {
      await router.stop(); // an embedded engine's file is then free to be read
    }
    await trial.verify(engine);
  }
  return figures;
}

/** Over rows that are there: replicas have them before the clock starts. */
const mixed: Run = async (trial, { mixedChanges }) => {
  await trial.makeSlot();
  await trial.insert(MIXED_BASE, 100);
  await captureBacklog(trial, "mixed", MIXED_BASE);
  await drainInto(trial, "mixed", MIXED_BASE);
  await trial.mix(mixedChanges);
  await captureBacklog(trial, "mixed", mixedChanges);
  return drainInto(trial, "mixed", mixedChanges);
};
const MIXED_BASE = 100_000;

const BOTH = ["postgres", "sqlite"] as const;

const endToEnd: Run = async (trial, { rows }) => {
  await trial.makeSlot();
  await trial.insert(rows, 100);
  return throughEverything(trial, "end-to-end", rows, async () => {});
};

const largeTransaction: Run = (trial, { largeRows }) =>
  throughEverything(trial, "large-transaction", largeRows, () => trial.insert(largeRows, largeRows));

/** Both replicas at once; `write` is called when everything is ready. */
async function throughEverything(trial: Trial, part: Part, rows: number, write: () => Promise<void>): Promise<readonly Figure[]> {
  await using postgres = await trial.router("postgres");
  await using sqlite = await trial.router("sqlite");
  await Promise.all([postgres.ready(), sqlite.ready()]);
  await using cdc = await trial.cdc();
  await cdc.ready();
  await write();
  const figures = await Promise.all([
    drain(part, "cdc", cdc, rows),
    drain(part, "postgres", postgres, rows),
    drain(part, "sqlite", sqlite, rows),
  ]);
  for (const engine of BOTH) await trial.verify(engine);
  return figures;
}

const RUNS: Readonly<Record<Part, Run>> = {
  capture,
  apply,
  mixed,
  "end-to-end": endToEnd,
  "large-transaction": largeTransaction,
  snapshot: (trial, { rows }) => snapshot(trial, rows),
};

/** One run of a part, on databases of its own. Rejects when a replica does not end equal. */
export async function runPart(lab: Lab, part: Part, attempt: number, options: BenchOptions): Promise<readonly Figure[]> {
  const trial = await Trial.open(lab, `${part.replaceAll("-", "_")}_${attempt}`, options.engines);
  const figures = await RUNS[part](trial, options);
  await trial.close();
  return figures;
}
