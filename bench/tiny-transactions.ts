import { Client } from "pg";
import { drain, type Figure } from "./figure.ts";
import type { Pipeline, Trial } from "./lab.ts";

const PER_SECOND = 10_000;
const SLICE_MS = 100;
const SLICE = (PER_SECOND * SLICE_MS) / 1000;
const LOOK_MS = 1_000;

/** One row each, as many a second as main-db takes up to a limit; then what the services are behind is drained. */
export async function tinyTransactions(trial: Trial, transactions: number): Promise<readonly Figure[]> {
  await trial.sql(PROCEDURE);
  await using pipeline = await trial.pipeline();
  const draining = Promise.all(pipeline.services.map(([who, service]) => drain("tiny-transactions", who, service, transactions)));
  draining.catch(() => undefined);
  const written = await write(trial, transactions, pipeline);
  const figures = await draining;
  await pipeline.stop();
  for (const engine of trial.engines) await trial.verify(engine);
  return figures.map((figure) => ({ ...figure, note: noteOf(figure, written) }));
}

interface Written {
  readonly seconds: number;
  /** Most transactions that a service was behind, by its name, and at the end. */
  readonly behind: ReadonlyMap<string, { readonly most: number; readonly last: number }>;
}

async function write(trial: Trial, transactions: number, pipeline: Pipeline): Promise<Written> {
  const client = new Client({ connectionString: trial.mainUrl });
  await client.connect();
  const behind = new Map<string, { most: number; last: number }>();
  try {
    await client.query("SET synchronous_commit = off");
    const startedAt = performance.now();
    let lookedAt = startedAt;
    for (let done = 0; done < transactions; done += SLICE) {
      await client.query(`CALL tiny(${done + 1}, ${Math.min(SLICE, transactions - done)})`);
      const now = performance.now();
      if (now - lookedAt > LOOK_MS || done + SLICE >= transactions) {
        lookedAt = now;
        for (const [who, service] of pipeline.services) {
          const last = done + SLICE - (await service.status()).eventsTotal;
          behind.set(who, { most: Math.max(last, behind.get(who)?.most ?? 0), last });
        }
      }
      const aheadMs = startedAt + (done / SLICE + 1) * SLICE_MS - performance.now();
      if (aheadMs > 0) await Bun.sleep(aheadMs);
    }
    return { seconds: (performance.now() - startedAt) / 1000, behind };
  } finally {
    await client.end();
  }
}

function noteOf({ who, rows }: Figure, { seconds, behind }: Written): string {
  const { most = 0, last = 0 } = behind.get(who) ?? {};
  return `written at ${Math.round(rows / seconds)}/s; behind by ${last} when all were, at most ${most}`;
}

const PROCEDURE = `
  CREATE PROCEDURE tiny(first bigint, total bigint) LANGUAGE plpgsql AS $$
  BEGIN
    FOR id IN first..first + total - 1 LOOP
      INSERT INTO bench VALUES (id, id % 5000, 'new', (id % 100000) / 100.0, now(), id % 2 = 0, repeat(md5(id::text), 4));
      COMMIT;
    END LOOP;
  END $$`;
