import { bulkInsert } from "./ceilings/bulk-insert.ts";
import { plainProducer } from "./ceilings/producer.ts";
import { makeCeilingSlot, recvlogical } from "./ceilings/recvlogical.ts";
import { ceilingFigure, drain, type Figure } from "./figure.ts";
import { ENGINES, type Engine, type Lab, type Pipeline, Trial } from "./lab.ts";
import { latency } from "./latency.ts";
import { manyTables } from "./many-tables.ts";
import type { BenchOptions, Part } from "./options.ts";
import { peerNamed } from "./peers/peers.ts";
import { fleetsOf, scale, topicsOf } from "./scale.ts";
import { snapshot } from "./snapshot.ts";
import { tinyTransactions } from "./tiny-transactions.ts";
import { type Workload, workloadNamed } from "./workloads.ts";

type Run = (trial: Trial, options: BenchOptions) => Promise<readonly Figure[]>;
/** @param changes how many are wanted */
type WorkloadRun = (trial: Trial, workload: Workload, changes: number) => Promise<readonly Figure[]>;

/** The slot's backlog, read from the moment cdc is ready. */
const capture: WorkloadRun = async (trial, workload, changes) => {
  await prepare(trial, workload);
  const slot = `${trial.name}_ceiling`;
  await makeCeilingSlot(trial.mainUrl, slot);
  const written = await trial.write(workload, changes);
  const cdc = await captureBacklog(trial, "capture", written);
  const read = await recvlogical(trial.mainUrl, slot, written, trial.folder);
  const figures = [cdc, ceilingFigure("capture", "pg_recvlogical", "cdc", read)];
  if (!workload.isOfBenchRows) return figures;
  const sent = await plainProducer(trial.brokers, slot, written);
  return [...figures, ceilingFigure("capture", "kafkajs alone", "cdc", sent)];
};

/** One replica after the other, each from the first offset. */
const apply: WorkloadRun = async (trial, workload, changes) => {
  await prepareReplicas(trial, workload);
  const written = await trial.write(workload, changes);
  await captureBacklog(trial, "apply", written);
  const figures = await drainInto(trial, written);
  if (!workload.isOfBenchRows) return figures;
  for (const engine of trial.engines) {
    const inserted = await bulkInsert(engine, trial.replicaUrl(engine), written);
    figures.push(ceilingFigure("apply", `${engine} alone`, engine, inserted));
  }
  return figures;
};

/** A backlog of the slot, through everything at once. */
const endToEnd: WorkloadRun = async (trial, workload, changes) => {
  await prepareReplicas(trial, workload);
  const written = await trial.write(workload, changes);
  await using pipeline = await trial.pipeline();
  return await throughEverything(trial, "end-to-end", written, pipeline);
};

/** The slot begins before the first change, and Kafka has what was there before it. */
async function prepare(trial: Trial, workload: Workload): Promise<void> {
  await trial.sql(workload.schema);
  await trial.makeSlot();
}

/** And the replicas have it. */
async function prepareReplicas(trial: Trial, workload: Workload): Promise<void> {
  await prepare(trial, workload);
  if (workload.base > 0) await drainInto(trial, workload.base);
}

async function captureBacklog(trial: Trial, part: Part, rows: number): Promise<Figure> {
  await using cdc = await trial.cdc();
  await cdc.ready();
  return await drain(part, "cdc", cdc, rows, { servers: trial.servers([]) });
}

/** A figure for each engine, one after the other. */
async function drainInto(trial: Trial, rows: number): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const engine of trial.engines) {
    const router = await trial.router(engine);
    try {
      await router.ready();
      figures.push(await drain("apply", engine, router, rows, { servers: trial.servers([engine]) }));
    } finally {
      await router.stop(); // an embedded engine's file is then free to be read
    }
    await trial.verify(engine);
  }
  return figures;
}

/** All replicas at once; what the servers used stands with each router, until it was done. */
async function throughEverything(trial: Trial, part: Part, rows: number, pipeline: Pipeline): Promise<readonly Figure[]> {
  const servers = trial.servers();
  const figures = await Promise.all(
    pipeline.services.map(([who, service]) => drain(part, who, service, rows, who === "cdc" ? {} : { servers })),
  );
  await pipeline.stop(); // an embedded engine's file is then free to be read
  for (const engine of trial.engines) await trial.verify(engine);
  return figures;
}

/** It passes while all is running: what it takes in memory. */
const largeTransaction: Run = async (trial, { largeRows }) => {
  await using pipeline = await trial.pipeline();
  await trial.insert(largeRows, largeRows);
  return await throughEverything(trial, "large-transaction", largeRows, pipeline);
};

const WORKLOAD_RUNS: Partial<Record<Part, WorkloadRun>> = { capture, apply, "end-to-end": endToEnd };

const RUNS: Partial<Record<Part, Run>> = {
  "large-transaction": largeTransaction,
  latency: (trial, { paced, pacedSeconds }) => latency(trial, paced, pacedSeconds),
  snapshot: (trial, { changes }) => snapshot(trial, changes ?? SNAPSHOT_ROWS),
  "many-tables": (trial, { tables }) => manyTables(trial, tables),
  "tiny-transactions": (trial, { tinyTransactions: transactions }) => tinyTransactions(trial, transactions),
};
const SNAPSHOT_ROWS = 500_000;
const SCALE_ROWS = 100_000;

const BOTH: readonly Engine[] = ["postgres", "sqlite"];
/** All others run through cdc and all routers at once. */
const ONE_BY_ONE: ReadonlySet<Part> = new Set(["capture", "apply", "snapshot"]);

/** One run of a part, on databases of its own: of each workload where it has any. Rejects when a replica does not end equal. */
export async function runPart(
  lab: Lab,
  part: Part,
  attempt: number,
  options: BenchOptions,
  tell: (what: string) => void,
): Promise<readonly Figure[]> {
  const engines = options.engines ?? (ONE_BY_ONE.has(part) ? ENGINES : BOTH);
  const name = `${part.replaceAll("-", "_")}_${attempt}`;
  const run = RUNS[part];
  if (run !== undefined) return await inTrial(lab, name, engines, (trial) => run(trial, options), { attempt });
  const figures: Figure[] = [];
  if (part === "scale") {
    for (const topics of topicsOf(options.scale)) {
      const fleets = fleetsOf(options.scale);
      const measure = (trial: Trial) => scale(trial, topics, fleets, options.changes ?? SCALE_ROWS, tell);
      const trialName = `${name}_${topics.tables}_${topics.partitions}`;
      figures.push(...(await inTrial(lab, trialName, ["postgres"], measure, { attempt })));
    }
    return figures;
  }
  const runWorkload = WORKLOAD_RUNS[part] as WorkloadRun;
  for (const workload of options.workloads) {
    tell(workload);
    const { changes } = workloadNamed[workload];
    const measure = (trial: Trial) => runWorkload(trial, workloadNamed[workload], options.changes ?? changes);
    const trialName = `${name}_${workload.replace("-", "_")}`;
    figures.push(...(await inTrial(lab, trialName, engines, measure, { attempt, workload })));
    for (const peer of options.peers) {
      const run = peerNamed[peer].runs[part];
      if (run === undefined) continue;
      const measurePeer = (trial: Trial) => run(trial, workloadNamed[workload], options.changes ?? changes);
      const peersName = `${trialName}_${peer.replace("-", "_")}`;
      figures.push(
        ...(await inTrial(lab, peersName, ["postgres"], measurePeer, { attempt, workload }, workloadNamed[workload].schema)),
      );
    }
  }
  return figures;
}

async function inTrial(
  lab: Lab,
  name: string,
  engines: readonly Engine[],
  measure: (trial: Trial) => Promise<readonly Figure[]>,
  of: Pick<Figure, "attempt" | "workload">,
  schema = "",
): Promise<readonly Figure[]> {
  const trial = await Trial.open(lab, name, engines);
  if (schema !== "") await trial.sql(schema);
  const figures = await measure(trial);
  await trial.close();
  return figures.map((figure) => ({ ...figure, ...of }));
}
