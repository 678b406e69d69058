import { bulkInsert } from "./ceilings/bulk-insert.ts";
import { plainProducer } from "./ceilings/producer.ts";
import { makeCeilingSlot, recvlogical } from "./ceilings/recvlogical.ts";
import { ceilingFigure, drain, type Figure } from "./figure.ts";
import { ENGINES, type Lab, Trial } from "./lab.ts";
import { manyTables } from "./many-tables.ts";
import type { BenchOptions, Part } from "./options.ts";
import { snapshot } from "./snapshot.ts";
import { tinyTransactions } from "./tiny-transactions.ts";

type Run = (trial: Trial, options: BenchOptions) => Promise<readonly Figure[]>;

/** The slot's backlog, read from the moment cdc is ready. */
const capture: Run = async (trial, { rows }) => {
  await trial.makeSlot();
  const slot = `${trial.name}_ceiling`;
  await makeCeilingSlot(trial.mainUrl, slot);
  await trial.insert(rows, 100);
  const cdc = await captureBacklog(trial, "capture", rows);
  const read = await recvlogical(trial.mainUrl, slot, rows, trial.folder);
  const sent = await plainProducer(trial.brokers, slot, rows);
  return [cdc, ceilingFigure("capture", "pg_recvlogical", "cdc", read), ceilingFigure("capture", "kafkajs alone", "cdc", sent)];
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
  const figures = [...(await drainInto(trial, "apply", rows))];
  for (const engine of trial.engines) {
    const inserted = await bulkInsert(engine, trial.replicaUrl(engine), rows);
    figures.push(ceilingFigure("apply", `${engine} alone`, engine, inserted));
  }
  return figures;
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

const endToEnd: Run = async (trial, { rows }) => {
  await trial.makeSlot();
  await trial.insert(rows, 100);
  return throughEverything(trial, "end-to-end", rows, async () => {});
};

const largeTransaction: Run = (trial, { largeRows }) =>
  throughEverything(trial, "large-transaction", largeRows, () => trial.insert(largeRows, largeRows));

/** All replicas at once; `write` is called when everything is ready. */
async function throughEverything(trial: Trial, part: Part, rows: number, write: () => Promise<void>): Promise<readonly Figure[]> {
  await using pipeline = await trial.pipeline();
  await write();
  const figures = await Promise.all(pipeline.services.map(([who, service]) => drain(part, who, service, rows)));
  await pipeline.stop(); // an embedded engine's file is then free to be read
  for (const engine of trial.engines) await trial.verify(engine);
  return figures;
}

const RUNS: Readonly<Record<Part, Run>> = {
  capture,
  apply,
  mixed,
  "end-to-end": endToEnd,
  "large-transaction": largeTransaction,
  snapshot: (trial, { rows }) => snapshot(trial, rows),
  "many-tables": (trial, { tables }) => manyTables(trial, tables),
  "tiny-transactions": (trial, { tinyTransactions: transactions }) => tinyTransactions(trial, transactions),
};

const BOTH = ["postgres", "sqlite"] as const;
/** Parts through cdc and all routers at once. */
const BOTH_AT_ONCE: ReadonlySet<Part> = new Set(["end-to-end", "large-transaction", "many-tables", "tiny-transactions"]);

/** One run of a part, on databases of its own. Rejects when a replica does not end equal. */
export async function runPart(lab: Lab, part: Part, attempt: number, options: BenchOptions): Promise<readonly Figure[]> {
  const engines = options.engines ?? (BOTH_AT_ONCE.has(part) ? BOTH : ENGINES);
  const trial = await Trial.open(lab, `${part.replaceAll("-", "_")}_${attempt}`, engines);
  const figures = await RUNS[part](trial, options);
  await trial.close();
  return figures.map((figure) => ({ ...figure, attempt }));
}
