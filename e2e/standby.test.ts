import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import type { CdcStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import type { Client } from "pg";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { repeat } from "./reconnecting.ts";
import { readTopic } from "./topics.ts";

/** Two cdcs on one slot: one works, the other takes over when that is killed, or does not move any more. */

setDefaultTimeout(180_000);

/** 2 to 4 on an idle machine; the tests may run on a busy one. */
const TAKES_OVER_SECONDS = 10;
/** The second looks so long before it believes it. */
const FROZEN_SECONDS = 12;

const schema = (client: Client) =>
  client.query(`CREATE TABLE accounts (id int PRIMARY KEY, n int NOT NULL, v text NOT NULL);
    INSERT INTO accounts SELECT id, 0, md5(id::text) FROM generate_series(1, 5000) AS id`);

const kept: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of kept.splice(0).reverse()) await one[Symbol.asyncDispose]();
});

async function pipelineOf(name: string, env: Readonly<Record<string, string>>): Promise<Pipeline> {
  const pipeline = await openPipeline({ name, engines: ["postgres", "sqlite"], schema, env });
  kept.push(pipeline);
  for (const engine of ["postgres", "sqlite"] as const) await pipeline.router(engine);
  return pipeline;
}

/** Commits all the time; every transaction counts. */
function load({ mainUrl }: Pipeline) {
  let at = 0;
  return repeat(mainUrl, (client) => async () => {
    at++;
    const id = 1 + ((at * 7919) % 5_000);
    await client.query(`BEGIN; UPDATE accounts SET n = n + 1 WHERE id IN (${id}, ${1 + (id % 5_000)});
      INSERT INTO accounts VALUES (${100_000 + at}, 0, 'new') ON CONFLICT DO NOTHING; DELETE FROM accounts WHERE id = ${100_000 + at - 50};
      ${at % 40 === 0 ? `ALTER TABLE accounts ADD COLUMN c${at} int DEFAULT ${at};` : ""} COMMIT`);
    await Bun.sleep(4);
    return true;
  });
}

const works = async (cdc: Service<CdcStatus>): Promise<boolean> => ((await cdc.status().catch(() => null))?.eventsTotal ?? 0) > 0;

const waits = (cdc: Service<CdcStatus>) =>
  until(async () => (await cdc.status().catch(() => null))?.lastError?.code === "SLOT_ACTIVE", 60_000);

/** Seconds until `standby` has published something. */
async function takenOver(standby: Service<CdcStatus>, withinMs: number): Promise<number> {
  const since = performance.now();
  if (!(await until(() => works(standby), withinMs)))
    throw new Error(`it has not taken over in ${withinMs} ms:\n${standby.log()}`);
  return (performance.now() - since) / 1000;
}

test.each(["stream", "poll"])("kill -9 of the first: the second goes on within 5 s, and nothing is lost: %s", async (mode) => {
  const pipeline = await pipelineOf(`standby_killed_${mode}`, { CDC_MODE: mode });
  let [first, second] = [await pipeline.cdc(), null as Service<CdcStatus> | null];
  await first.ready();
  const loading = load(pipeline);
  const took: number[] = [];
  for (let round = 0; round < 3; round++) {
    second = await pipeline.cdc();
    expect(await waits(second)).toBe(true);
    expect(await works(first)).toBe(true);
    await first.kill();
    took.push(await takenOver(second, 20_000));
    first = second;
  }
  expect(await loading.stop()).toBeGreaterThan(50);
  await pipeline.expectEqual();
  process.stderr.write(`taken over after kill -9 (${mode}): ${took.map((s) => s.toFixed(1)).join(", ")} s\n`);
  for (const seconds of took) expect(seconds).toBeLessThan(TAKES_OVER_SECONDS);
});

test.each(["stream", "poll"])(
  "the first freezes: the second takes over, and the first does no harm when it wakes up: %s",
  async (mode) => {
    const pipeline = await pipelineOf(`standby_frozen_${mode}`, { CDC_MODE: mode });
    let first = await pipeline.cdc();
    await first.ready();
    let second = await pipeline.cdc();
    const loading = load(pipeline);
    for (let round = 0; round < 2; round++) {
      const seconds = await frozen(first, second);
      process.stderr.write(`taken over after SIGSTOP (${mode}): ${seconds.toFixed(1)} s\n`);
      expect(seconds).toBeLessThan(FROZEN_SECONDS + TAKES_OVER_SECONDS);
      [first, second] = [second, first];
    }
    expect(await loading.stop()).toBeGreaterThan(100);
    await pipeline.expectEqual();
    expect((await first.status()).ready).toBe(true);
    const [{ bound } = {}] = (await readTopic(pipeline.kafka.brokers, `${pipeline.name}.signals`))
      .filter(({ key }) => key?.toString() === "slot")
      .map(({ value }) => JSON.parse(value?.toString() ?? ""))
      .slice(-1);
    expect(bound).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
  },
);

/** Freezes `first` while it works, and wakes it up when `second` does. Resolves to the seconds that took. */
async function frozen(first: Service<CdcStatus>, second: Service<CdcStatus>): Promise<number> {
  const holds = (condition: boolean, what: string): void => {
    if (!condition) throw new Error(`${what}\nTHE FIRST:\n${first.log()}\nTHE SECOND:\n${second.log()}`);
  };
  holds(await waits(second), "the second does not wait");
  // A live one is left alone, however long the other waits.
  await Bun.sleep(3_000);
  holds(await works(first), "the first does not work");
  const before = (await second.status()).eventsTotal;
  first.child.signal("SIGSTOP");
  const since = performance.now();
  const published = async (): Promise<boolean> => ((await second.status().catch(() => null))?.eventsTotal ?? 0) > before;
  holds(await until(published, 30_000), "the second has not taken over");
  const seconds = (performance.now() - since) / 1000;
  await Bun.sleep(1_500);
  first.child.signal("SIGCONT");
  holds(await waits(first), "the first does not wait");
  return seconds;
}
