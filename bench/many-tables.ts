import { cpuSecondsOf, peakRssBytesOf } from "@cascade/local/usage-of.ts";
import { drain, type Figure } from "./figure.ts";
import type { Pipeline, Trial } from "./lab.ts";

const ROWS_PER_TABLE = 10;
const ROUNDS = 50;
const IDLE_MS = 20_000;

/** Small tables: all are copied, left alone, written to in turn, and found again by services that start anew. */
export async function manyTables(trial: Trial, tables: number): Promise<readonly Figure[]> {
  await trial.sql(PROCEDURES);
  await trial.sql(`CALL make_tables(${tables}, ${ROWS_PER_TABLE})`);
  const copied = tables * ROWS_PER_TABLE;
  const written = tables * ROUNDS;
  const startedAt = performance.now();
  const figures: Figure[] = [];
  {
    await using pipeline = await trial.pipeline();
    const readyAfter = secondsSince(startedAt);
    const copies = await drainAll(pipeline, copied, 0);
    const idle = await idleOf(pipeline);
    await trial.sql(`CALL write_tables(${tables}, ${ROUNDS})`);
    const changes = await drainAll(pipeline, copied + written, copied);
    figures.push(
      ...copies.map((figure) => ({
        ...figure,
        who: `${figure.who}, copies`,
        note: `ready after ${readyAfter}; idle: ${idle.get(figure.who)}`,
      })),
      ...changes.map((figure) => ({ ...figure, who: `${figure.who}, changes` })),
    );
    await pipeline.stop();
  }
  figures.push(...(await startAgain(trial, tables)));
  for (const engine of trial.engines) await trial.verify(engine, "public.t_*");
  return figures;
}

const drainAll = (pipeline: Pipeline, rows: number, before: number): Promise<readonly Figure[]> =>
  Promise.all(pipeline.services.map(([who, service]) => drain("many-tables", who, service, rows, { before })));

/** From a start until one more row of every table is there. */
async function startAgain(trial: Trial, tables: number): Promise<readonly Figure[]> {
  await trial.sql(`CALL write_tables(${tables}, 1)`);
  const startedAt = performance.now();
  await using pipeline = await trial.pipeline();
  const note = `started again: ready after ${secondsSince(startedAt)}`;
  const figures = await drainAll(pipeline, tables, 0);
  await pipeline.stop();
  return figures.map((figure) => ({ ...figure, who: `${figure.who}, started again`, note }));
}

async function idleOf(pipeline: Pipeline): Promise<ReadonlyMap<string, string>> {
  const before = pipeline.services.map(([, { child }]) => cpuSecondsOf(child.pid));
  await Bun.sleep(IDLE_MS);
  const used = pipeline.services.map(([, { child }], at) => cpuSecondsOf(child.pid) - (before[at] ?? 0));
  const texts = new Map<string, string>();
  for (const [at, [who, service]] of pipeline.services.entries()) {
    const percent = (((used[at] ?? 0) / IDLE_MS) * 100_000).toFixed(1);
    texts.set(
      who,
      `${percent}% of a core, ${(peakRssBytesOf(service.child.pid) / 1e6).toFixed(0)} MB at most so far; ${await pages(service)}`,
    );
  }
  return texts;
}

async function pages({ httpUrl }: { readonly httpUrl: string }): Promise<string> {
  const sizes: string[] = [];
  for (const path of ["/metrics", "/status"]) {
    const startedAt = performance.now();
    const text = await (await fetch(httpUrl + path, { keepalive: false })).text();
    sizes.push(`${path} ${Math.round(text.length / 1000)} kB in ${Math.round(performance.now() - startedAt)} ms`);
  }
  return sizes.join(", ");
}

const secondsSince = (startedAt: number): string => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;

const PROCEDURES = `
  DROP TABLE bench, streamed;
  CREATE PROCEDURE make_tables(total integer, rows_each integer) LANGUAGE plpgsql AS $$
  BEGIN
    FOR n IN 1..total LOOP
      EXECUTE format('CREATE TABLE t_%s (id bigint PRIMARY KEY, name text NOT NULL, amount numeric(12,2), changed_at timestamptz, note text)', n);
      EXECUTE format('INSERT INTO t_%s SELECT id, ''name '' || id, id * 1.25, now(), md5(id::text) FROM generate_series(1, %s) AS id', n, rows_each);
      IF n % 100 = 0 THEN COMMIT; END IF;
    END LOOP;
  END $$;
  CREATE SEQUENCE next_id START 1000;
  CREATE PROCEDURE write_tables(total integer, rounds integer) LANGUAGE plpgsql AS $$
  BEGIN
    FOR round IN 1..rounds LOOP
      FOR n IN 1..total LOOP
        EXECUTE format('INSERT INTO t_%s VALUES (nextval(''next_id''), ''new'', 1.5, now(), repeat(''x'', 100))', n);
        IF n % 10 = 0 THEN COMMIT; END IF;
      END LOOP;
      COMMIT;
    END LOOP;
  END $$`;
