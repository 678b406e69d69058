import { parseArgs } from "node:util";
import { FAULTS, type Fault } from "./network.ts";
import { reportText, simulate } from "./simulate.ts";

const USAGE = `usage: npm run simulate -- [--histories N] [--seed N] [--seconds N] [--without FAULT,...] [--transactions N] [--partitions N] [--shards N] [--keep-going]
  Random histories of both pipelines under a virtual clock, each checked (docs/decisions/0025). Faults: ${FAULTS.join(", ")}`;
const PROGRESS_EVERY = 5_000;

const { values } = parseArgs({
  options: {
    histories: { type: "string", default: "10000" },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    seconds: { type: "string" },
    without: { type: "string", default: "" },
    transactions: { type: "string" },
    partitions: { type: "string" },
    shards: { type: "string" },
    "keep-going": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function number(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) fail(`--${name} is a whole number`);
  return value;
}

function fail(reason: string): never {
  process.stderr.write(`${reason}\n${USAGE}\n`);
  process.exit(2);
}

if (values.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
const without = values.without.split(",").filter((name) => name !== "");
for (const name of without) if (!FAULTS.includes(name as Fault)) fail(`no fault is called ${name}`);
const seed = number("seed", values.seed);
const report = await simulate({
  seed,
  histories: number("histories", values.histories),
  faults: new Set(FAULTS.filter((fault) => !without.includes(fault))),
  ...(values.seconds !== undefined && { seconds: number("seconds", values.seconds) }),
  ...(values.transactions !== undefined && { transactions: number("transactions", values.transactions) }),
  ...(values.partitions !== undefined && { partitions: number("partitions", values.partitions) }),
  ...(values.shards !== undefined && { shards: number("shards", values.shards) }),
  ...(values["keep-going"] && { maxFailures: Number.POSITIVE_INFINITY }),
  onProgress: (done) => {
    if (done % PROGRESS_EVERY === 0) process.stderr.write(`${done} histories\n`);
  },
});
for (const failure of report.failures) process.stdout.write(`\n${failure}\n\n`);
process.stdout.write(`${reportText(report, seed)}\n`);
process.exit(report.failures.length === 0 ? 0 : 1);
