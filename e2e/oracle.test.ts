import { expect, test } from "bun:test";
import fc from "fast-check";
import { ENGINES } from "./oracle/engines.ts";
import { type History, history } from "./oracle/histories.ts";
import { historySql, scriptOf } from "./oracle/history-sql.ts";
import { type Figures, OracleLine } from "./oracle/line.ts";

/**
 * Any tables, rows and transactions: what PostgreSQL says they come to is what every replica holds, or the table has stopped for a
 * reason that its engine's documented limits give. CONTRIBUTING.md tells how to run it longer, and how to repeat a run.
 */

const variable = (name: string): string | undefined => process.env[name] || undefined;
const seconds = Number(variable("ORACLE_SECONDS") ?? 15);
const seed = Number(variable("ORACLE_SEED") ?? Date.now() % 2 ** 31);
const path = variable("ORACLE_PATH");
const engines = ENGINES.filter(({ name }) => (variable("ORACLE_ENGINES") ?? name).split(",").includes(name));
/** A failure is made smaller for so long. */
const SHRINK_SECONDS = Number(variable("ORACLE_SHRINK_SECONDS") ?? 30);
/** Both ways of reading the WAL get their turn. */
const mode = seed % 4 === 0 ? "poll" : "stream";

test(
  "random tables and transactions end equal on every replica",
  async () => {
    await using line = await OracleLine.open(`oracle_${process.pid}`, mode, engines);
    const property = fc.asyncProperty(history, (given) => line.run(given));
    const limits = { numRuns: 1_000_000, maxSkipsPerRun: 0, interruptAfterTimeLimit: seconds * 1000, endOnFailure: true };
    const replay = path === undefined ? {} : { path };
    const found = await fc.check(property, { ...limits, seed, ...replay });
    const { histories } = line.figures;
    process.stdout.write(`${figuresText(line.figures)}\n`);
    if (found.failed && found.counterexamplePath !== null) {
      const shrunk = await fc.check(property, {
        numRuns: 1,
        seed,
        path: found.counterexamplePath,
        interruptAfterTimeLimit: SHRINK_SECONDS * 1000,
      });
      throw new Error(failureText(shrunk.failed ? shrunk : found));
    }
    expect(histories).toBeGreaterThan(0);
    // A name that is no engine's would let everything pass.
    expect(engines.length).toBe(variable("ORACLE_ENGINES")?.split(",").length ?? ENGINES.length);
  },
  (seconds + SHRINK_SECONDS + 40) * 1000,
);

function figuresText({ histories, transactions, events, stops }: Figures): string {
  const stopped = [...stops].map(([name, count]) => `, ${count} tables stopped on ${name}`).join("");
  return `oracle: ORACLE_SEED=${seed} (${mode}, ${engines.map(({ name }) => name).join(", ")}): ${histories} histories, ${transactions} transactions, ${events} events${stopped}`;
}

function failureText(found: fc.RunDetails<[History]>): string {
  const script = found.counterexample === null ? "" : scriptOf(historySql(found.counterexample[0], 0));
  const sizes = found.counterexample?.[0];
  return [
    `Not equal: ORACLE_SEED=${seed} ORACLE_PATH=${found.counterexamplePath ?? ""}`,
    describe(found.errorInstance),
    `batches ${JSON.stringify(sizes?.batchSizes)}, replayed events ${JSON.stringify(sizes?.replays)}`,
    script,
  ].join("\n");
}

const describe = (error: unknown): string =>
  error instanceof Error ? `${error.message}${error.cause === undefined ? "" : ` (${error.cause})`}` : String(error);
