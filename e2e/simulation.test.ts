import { expect, test } from "bun:test";
import { runHistory } from "./simulation/history.ts";
import { reportText, simulate } from "./simulation/simulate.ts";

/**
 * Both pipelines over simulated ports, with faults by chance (docs/decisions/0025). Another seed each time; `npm run simulate` runs it longer,
 * and a failure prints the command that repeats it.
 */

const SECONDS = 6;
const seed = Number(process.env["SIMULATION_SEED"] ?? Date.now() % 2 ** 31);

test(
  "whatever fails and whenever, nothing is lost, doubled or stuck",
  async () => {
    const report = await simulate({ seed, histories: 1_000_000, seconds: SECONDS });
    process.stdout.write(`${reportText(report, seed)}\n`);
    expect(report.failures.join("\n")).toBe("");
    expect(report.histories).toBeGreaterThan(0);
  },
  (SECONDS + 100) * 1000,
);

test("a seed is one history", () => {
  const first = runHistory({ seed });
  runHistory({ seed: seed + 1 });
  expect(runHistory({ seed, trace: true }).digest).toBe(first.digest);
});
