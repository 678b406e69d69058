import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import type { RouterStatus } from "@cascade/local/service-status.ts";
import { until } from "@cascade/local/wait.ts";
import { randomOf } from "@cascade/workload/random";
import { openFaultLab } from "../faults/lab.ts";
import { moreChanges, startLoad } from "../load.ts";
import type { Engine } from "../pipeline.ts";
import { type Fault, faultsOf, topicDeleted } from "./faults.ts";
import { type Field, openField } from "./field.ts";

export interface Verdict {
  readonly seed: number;
  readonly engines: readonly Engine[];
  /** KAFKA_PARTITIONS. */
  readonly partitions: number;
  /** In the order in which they struck. */
  readonly faults: readonly string[];
  /** Row changes committed on main-db. */
  readonly changes: number;
  readonly seconds: number;
  /** Of the end: from the last fault's end until every replica was equal. */
  readonly recoverySeconds: number;
  /** null: every replica is equal, row by row. */
  readonly problem: string | null;
}

const TABLES = 5;
const SIDES: readonly [Engine, Engine, Engine] = ["sqlite", "duckdb", "mariadb"];

/**
 * One pipeline, a workload and some faults, all by the seed: what strikes, in which order, how long. What happens between them is up to
 * the machine. Ends with a row-by-row comparison.
 */
export async function runHistory(seed: number, say: (line: string) => void = () => {}): Promise<Verdict> {
  const random = randomOf(seed);
  const started = performance.now();
  const engines: readonly Engine[] = ["postgres", random.pick(SIDES)];
  const faults: string[] = [];
  let [changes, recoverySeconds] = [0, 0];
  const secondsSince = (from: number): number => Math.round((performance.now() - from) / 100) / 10;
  const verdict = (problem: string | null): Verdict => ({
    ...{ seed, engines, partitions, faults, changes, recoverySeconds, problem },
    seconds: secondsSince(started),
  });
  const changesPerSecond = random.between(100, 500);
  const deletes = random.chance(0.15);
  // What was read of a topic before it is deleted is known where every partition has some.
  const partitions = deletes ? 1 : randomOf(seed + 1).pick([1, 1, 3]);
  const env = { KAFKA_PARTITIONS: String(partitions) };
  await using lab = await openFaultLab({ name: `history_${seed}`, engines, schema: createDemoSchema, env });
  const field = await openField(lab, engines);
  const load = startLoad(lab.pipeline.mainUrl, { seed, changesPerSecond });
  try {
    if (deletes) {
      await moreChanges(load, 100);
      await untilAllAreRead(field);
    }
    await strikeAll(field, deletes, random, (name) => {
      faults.push(name);
      say(`${secondsSince(started)} s: ${name}`);
    });
    await moreChanges(load, 20);
    changes = await load.stop();
    const healed = performance.now();
    await lab.pipeline.expectEqual(90_000);
    recoverySeconds = secondsSince(healed);
    return verdict(null);
  } catch (error) {
    return verdict(error instanceof Error ? error.message : String(error));
  } finally {
    await load.stop().catch(() => {});
  }
}

/** Some after the other, some while others last. */
async function strikeAll(
  field: Field,
  deletes: boolean,
  random: ReturnType<typeof randomOf>,
  told: (name: string) => void,
): Promise<void> {
  const all = faultsOf(field);
  const drawn = Array.from({ length: random.between(4, 9) }, () => random.pick(all as readonly [Fault, ...Fault[]]));
  if (deletes) drawn.splice(random.between(0, drawn.length), 0, topicDeleted(field));
  const underWay = new Map<string, () => Promise<void>>();
  const endAll = async (): Promise<void> => {
    for (const [target, end] of underWay) {
      underWay.delete(target);
      await end();
    }
  };
  try {
    for (const fault of drawn) {
      const [pauseMs, lastsMs, overlaps] = [random.between(0, 800), random.between(50, 2_000), random.chance(0.4)];
      await Bun.sleep(pauseMs);
      // The same one cannot be killed twice.
      if (underWay.has(fault.target)) await endAll();
      told(fault.name);
      underWay.set(fault.target, await fault.strike(random));
      await Bun.sleep(lastsMs);
      if (!overlaps) await endAll();
    }
  } finally {
    await endAll();
  }
}

async function untilAllAreRead({ routers }: Field): Promise<void> {
  const read = await until(async () => {
    const statuses = await Promise.all(
      routers.map((router) =>
        router
          .current()
          .status()
          .catch(() => null),
      ),
    );
    return statuses.every((status) => {
      const partitions = (status as RouterStatus | null)?.partitions ?? [];
      return partitions.filter(({ nextOffset }) => nextOffset !== null).length === TABLES;
    });
  }, 60_000);
  if (!read) throw new Error("the routers have not begun to read every topic within 60 s");
}
