import { expect, test } from "bun:test";
import { seedFromEnvironment } from "@cascade/workload/random";
import { runHistory } from "./history.ts";

/** A few of the random histories of faults; many more, and one again, by `npm run reliability`. */
test.each([0, 1])(
  "random history %d of faults ends equal",
  async (at) => {
    const seed = (seedFromEnvironment() % 1_000_000) + at;
    const { problem } = await runHistory(seed, (line) => process.stderr.write(`history, seed ${seed}, ${line}\n`));
    expect(problem === null ? "equal" : `npm run reliability -- --histories 1 --seed ${seed}\n${problem}`).toBe("equal");
  },
  240_000,
);
