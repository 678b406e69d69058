import { type HistoryFigures, type HistoryOptions, runHistory } from "./history.ts";
import { FAULTS, type Fault } from "./network.ts";
import { commandOf, shrink } from "./shrink.ts";

export interface SimulationOptions extends Omit<HistoryOptions, "seed" | "trace"> {
  readonly seed: number;
  readonly histories: number;
  /** Ends before, once it has taken so long. */
  readonly seconds?: number;
  /** Failures after which it ends. */
  readonly maxFailures?: number;
  readonly onProgress?: (done: number) => void;
}

export interface SimulationReport {
  histories: number;
  transactions: number;
  schemaChanges: number;
  messages: number;
  commits: number;
  fenced: number;
  letters: number;
  settled: number;
  virtualHours: number;
  seconds: number;
  readonly faults: Map<Fault, number>;
  /** In words, each with the command that shows it again. */
  readonly failures: string[];
}

const TRACE_SHOWN = 60;

/** History after history, each with the seed after the one before. */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  const { seed, histories, seconds = Number.POSITIVE_INFINITY, maxFailures = 1, onProgress = () => undefined } = options;
  const { faults, transactions, partitions, shards } = options;
  const given = {
    ...(faults && { faults }),
    ...(transactions !== undefined && { transactions }),
    ...(partitions !== undefined && { partitions }),
    ...(shards !== undefined && { shards }),
  };
  const report: SimulationReport = { ...NOTHING, faults: new Map(), failures: [] };
  const stray: unknown[] = [];
  const onStray = (error: unknown) => void stray.push(error);
  process.on("unhandledRejection", onStray);
  const started = performance.now();
  try {
    while (report.histories < histories && report.failures.length < maxFailures && report.seconds < seconds) {
      const history = { seed: seed + report.histories, ...given };
      const { failure, figures } = runHistory(history);
      add(report, figures);
      // A rejection that nobody handles comes to light when the real event loop has its turn.
      await new Promise((resolve) => setImmediate(resolve));
      if (failure !== null) report.failures.push(failureText(history, failure));
      else if (stray.length > 0)
        report.failures.push(`${commandOf(history)}\na rejection that nobody handles: ${stray.splice(0)}`);
      report.seconds = (performance.now() - started) / 1000;
      onProgress(report.histories);
    }
  } finally {
    process.off("unhandledRejection", onStray);
  }
  return report;
}

const NOTHING = {
  histories: 0,
  transactions: 0,
  schemaChanges: 0,
  messages: 0,
  commits: 0,
  fenced: 0,
  letters: 0,
  settled: 0,
  virtualHours: 0,
  seconds: 0,
};

function add(report: SimulationReport, figures: HistoryFigures): void {
  report.histories++;
  report.transactions += figures.transactions;
  report.schemaChanges += figures.schemaChanges;
  report.messages += figures.messages;
  report.commits += figures.commits;
  report.fenced += figures.fenced;
  report.letters += figures.letters;
  report.settled += figures.settled;
  report.virtualHours += figures.virtualMs / 3_600_000;
  for (const [fault, count] of figures.faults) report.faults.set(fault, (report.faults.get(fault) ?? 0) + count);
}

function failureText(history: HistoryOptions, failure: string): string {
  const shrunk = shrink(history);
  if (shrunk === null)
    return `${commandOf(history)}\n${failure}\nRun again it did not fail: the simulation is not deterministic.`;
  const { options, outcome } = shrunk;
  const trace = outcome.trace.slice(-TRACE_SHOWN).join("\n");
  return `${commandOf(history)}\n${failure}\nWith less of it: ${commandOf(options)}\n${trace}\n${outcome.failure}`;
}

/** For people, and docs/reliability.md. */
export function reportText({ failures, faults, ...report }: SimulationReport, seed: number): string {
  const perMinute = Math.round((report.histories / report.seconds) * 60);
  const injected = FAULTS.map((fault) => `${faults.get(fault) ?? 0} ${fault}`).join(", ");
  return [
    `simulation: ${report.histories} histories from seed ${seed} in ${Math.round(report.seconds)} s (${perMinute} a minute), ${report.virtualHours.toFixed(0)} hours of their own time`,
    `${report.transactions} transactions, ${report.schemaChanges} schema changes, ${report.messages} messages, ${report.commits} commits on replicas, ${report.fenced} of others fenced off`,
    `${report.letters} dead letters, ${report.settled} commits of replays and discards`,
    `faults: ${injected}`,
    failures.length === 0 ? "0 lost, 0 doubled, 0 stuck" : `${failures.length} FAILED`,
  ].join("\n");
}
