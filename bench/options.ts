import { parseArgs } from "node:util";
import { ENGINES, type Engine } from "./lab.ts";
import { PEERS, type PeerName } from "./peers/peer.ts";
import { peerNamed } from "./peers/peers.ts";
import type { Matrix } from "./scale.ts";
import { WORKLOADS, type WorkloadName, workloadNamed } from "./workloads.ts";

export const PARTS = [
  "capture",
  "apply",
  "end-to-end",
  "latency",
  "large-transaction",
  "snapshot",
  "many-tables",
  "tiny-transactions",
  "scale",
] as const;
export type Part = (typeof PARTS)[number];

/** What `--part memory` stands for: everything that memory must be bounded under, with a larger transaction. */
const MEMORY = "memory";
const MEMORY_PARTS: readonly Part[] = ["large-transaction", "many-tables", "tiny-transactions"];

export interface BenchOptions {
  readonly parts: readonly Part[];
  /** null: all of them one after the other, PostgreSQL and SQLite where all are drained at once. */
  readonly engines: readonly Engine[] | null;
  readonly workloads: readonly WorkloadName[];
  /** Measured beside, each on the same servers, one after the other. */
  readonly peers: readonly PeerName[];
  /** Of each workload; null: its own number. */
  readonly changes: number | null;
  /** Changes a second under which the lag is measured, and for how long. */
  readonly paced: number;
  readonly pacedSeconds: number;
  /** Of the one large transaction. */
  readonly largeRows: number;
  /** Of many-tables. */
  readonly tables: number;
  readonly scale: Matrix;
  readonly tinyTransactions: number;
  readonly repeat: number;
  /** Where to write the results as JSON; null: nowhere. */
  readonly json: string | null;
  readonly charts: string | null;
  /** Figures of a former run, instead of one; null: it is run. */
  readonly from: string | null;
}

/** Its message is for people. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const usage = `npm run bench -- [options]

Measures Cascade on this machine, on real servers that it starts.

Beside capture and apply stands what the same servers give to a program that does nothing else, and how much of that was reached:
pg_recvlogical into a file, messages that are there already sent by kafkajs, rows that are there already inserted in bulk.

  --part NAME        only this part, and again for more:
                       capture            a backlog of the slot, drained by cdc into Kafka
                       apply              full topics, drained by shard-router into each engine in turn
                       end-to-end         a backlog of the slot, drained through everything into both at once
                       latency            rows at a steady rate: from the commit on main-db to visible on each replica
                       large-transaction  one transaction of --large-rows rows passes: peak memory of each service
                       many-tables        --tables tables: cdc and routers start, copy them, idle, are written to, start again
                       tiny-transactions  --tiny-transactions transactions of one row, 10000 a second
                       scale              topics filled once, drained by each number of routers into each number of replicas
                                          (PostgreSQL): what routers gain, over tables, partitions and a distance
                       memory             many-tables, tiny-transactions, and large-transaction with 5000000 rows
                       snapshot           a table of --changes rows, copied into Kafka; then 200000 changes of another
                                          table, drained alone and while the first is copied
  --workload NAME    capture, apply and end-to-end of this one alone, and again for more:
${WORKLOADS.map((name) => `                       ${name.padEnd(18)} ${workloadNamed[name].changes.toLocaleString("en")}: ${workloadNamed[name].what}`).join("\n")}
  --engine NAME      only this engine, and again for more: ${ENGINES.join(", ")} (all in apply;
                     postgres and sqlite where they are drained at once)
  --peer NAME        capture, apply and end-to-end of this one as well, and again for more (none):
${PEERS.map((name) => `                       ${name.padEnd(18)} ${peerNamed[name].what}`).join("\n")}
  --changes N        of each workload, and the rows of snapshot (500000) and of scale (100000)
  --paced N          changes a second of latency (5000)
  --paced-seconds N  (30)
  --large-rows N     (1000000)
  --tables N         of many-tables (2000); of scale, numbers with commas between (10)
  --partitions N,N   of scale: partitions of each topic (1)
  --routers N,N      of scale: routers of each replica (1,4)
  --replicas N,N     of scale (1)
  --latency-ms N,N   of scale: there and back between routers and replica; 0 is without a delay (0,5)
  --batch-rows N,N   of scale: ROUTER_BATCH_ROWS (100,5000)
  --tiny-transactions N  (600000)
  --repeat N         runs of each part, of which the median is shown (1)
  --json FILE        writes every run's figures there too
  --charts FOLDER    writes charts of capture, apply and end-to-end there (SVG)
  --from FILE        no run: the table, and the charts, of figures that --json has written
  --help             this text

A run whose replica does not end equal to main-db, row by row, has no figure and makes the exit status 1.
`;

/** Null when it asks for help. Throws UsageError. */
export function parseBenchOptions(args: readonly string[]): BenchOptions | null {
  const { values } = parse(args);
  if (values.help) return null;
  const isMemory = values.part?.includes(MEMORY) === true;
  const parts =
    values.part === undefined ? PARTS : values.part.flatMap((name) => (name === MEMORY ? MEMORY_PARTS : partNamed(name)));
  return {
    parts,
    engines: values.engine === undefined ? null : values.engine.map(engineNamed),
    workloads: values.workload === undefined ? WORKLOADS : values.workload.map(workloadCalled),
    peers: (values.peer ?? []).map(peerCalled),
    changes: values.changes === undefined ? null : count("--changes", values.changes),
    paced: count("--paced", values.paced ?? "5000"),
    pacedSeconds: count("--paced-seconds", values["paced-seconds"] ?? "30"),
    largeRows: count("--large-rows", values["large-rows"] ?? (isMemory ? "5000000" : "1000000")),
    tables: parts.includes("many-tables") ? count("--tables", values.tables ?? "2000") : 2000,
    scale: {
      tables: counts("--tables", values.tables ?? "10"),
      partitions: counts("--partitions", values.partitions ?? "1"),
      routers: counts("--routers", values.routers ?? "1,4"),
      replicas: counts("--replicas", values.replicas ?? "1"),
      latencyMs: counts("--latency-ms", values["latency-ms"] ?? "0,5", 0),
      batchRows: counts("--batch-rows", values["batch-rows"] ?? "100,5000"),
    },
    tinyTransactions: count("--tiny-transactions", values["tiny-transactions"] ?? "600000"),
    repeat: count("--repeat", values.repeat ?? "1"),
    json: values.json ?? null,
    charts: values.charts ?? null,
    from: values.from ?? null,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        part: { type: "string", multiple: true },
        engine: { type: "string", multiple: true },
        workload: { type: "string", multiple: true },
        peer: { type: "string", multiple: true },
        changes: { type: "string" },
        paced: { type: "string" },
        "paced-seconds": { type: "string" },
        "large-rows": { type: "string" },
        tables: { type: "string" },
        partitions: { type: "string" },
        routers: { type: "string" },
        replicas: { type: "string" },
        "latency-ms": { type: "string" },
        "batch-rows": { type: "string" },
        "tiny-transactions": { type: "string" },
        repeat: { type: "string" },
        json: { type: "string" },
        charts: { type: "string" },
        from: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function partNamed(name: string): Part {
  const part = PARTS.find((candidate) => candidate === name);
  if (part === undefined) throw new UsageError(`--part is "${name}"; allowed: ${PARTS.join(", ")}, ${MEMORY}`);
  return part;
}

function workloadCalled(name: string): WorkloadName {
  const workload = WORKLOADS.find((candidate) => candidate === name);
  if (workload === undefined) throw new UsageError(`--workload is "${name}"; allowed: ${WORKLOADS.join(", ")}`);
  return workload;
}

function peerCalled(name: string): PeerName {
  const peer = PEERS.find((candidate) => candidate === name);
  if (peer === undefined) throw new UsageError(`--peer is "${name}"; allowed: ${PEERS.join(", ")}`);
  return peer;
}

function engineNamed(name: string): Engine {
  const engine = ENGINES.find((candidate) => candidate === name);
  if (engine === undefined) throw new UsageError(`--engine is "${name}"; allowed: ${ENGINES.join(", ")}`);
  return engine;
}

function count(option: string, text: string): number {
  return number(option, text, "", 1);
}

/** In rising order, for the first of them is what the others are compared with. */
function counts(option: string, text: string, least = 1): readonly number[] {
  const found = text.split(",").map((part) => number(option, part, ", or several with commas between", least));
  return [...new Set(found)].sort((a, b) => a - b);
}

function number(option: string, text: string, more: string, least: number): number {
  const found = Number(text);
  if (/^\d+$/.test(text) && found >= least && found <= 100_000_000) return found;
  throw new UsageError(`${option} is "${text}"; allowed: an integer from ${least} to 100000000${more}`);
}
