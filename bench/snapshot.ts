import type { CdcStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { cpuSecondsOf, peakRssBytesOf } from "@cascade/local/usage-of.ts";
import { drain, type Figure } from "./figure.ts";
import type { Trial } from "./lab.ts";

const STREAMED_ROWS = 200_000;
const LOOK_MS = 20;

/** A table copied alone; then a backlog of another one's changes, drained alone and beside the copy. */
export async function snapshot(trial: Trial, rows: number): Promise<readonly Figure[]> {
  await trial.insert(rows, 10_000);
  await trial.sql("VACUUM ANALYZE bench");
  const figures = [await copied(trial, rows)];
  await trial.makeSlot({ tables: "public.streamed" });
  await trial.sql(`CALL fill_streamed(1, ${STREAMED_ROWS})`);
  figures.push(await streamed(trial, "cdc, stream alone", "public.streamed"));
  await trial.sql(`CALL fill_streamed(${STREAMED_ROWS + 1}, ${STREAMED_ROWS})`);
  figures.push(await streamed(trial, "cdc, stream beside a copy", "public.*"));
  return figures;
}

async function copied(trial: Trial, rows: number): Promise<Figure> {
  await using cdc = await trial.cdc({ copy: "copied" });
  await cdc.ready();
  return await drain("snapshot", "cdc, copy", cdc, rows);
}

async function streamed(trial: Trial, who: string, tables: string): Promise<Figure> {
  await using cdc = await trial.cdc({ tables });
  await cdc.ready();
  const { pid } = cdc.child;
  const [startedAt, cpuBefore] = [performance.now(), cpuSecondsOf(pid)];
  while ((await insertsOf(cdc)) < STREAMED_ROWS) {
    await Promise.race([Bun.sleep(LOOK_MS), cdc.died.then((error) => Promise.reject(error))]);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (tables === "public.*" && (await cdc.status()).snapshots.length === 0)
    throw new Error("the copy was over first: give --changes more");
  return {
    part: "snapshot",
    who,
    rows: STREAMED_ROWS,
    seconds,
    cpuSeconds: cpuSecondsOf(pid) - cpuBefore,
    peakRssBytes: peakRssBytesOf(pid),
  };
}

async function insertsOf(cdc: Service<CdcStatus>): Promise<number> {
  const text = await (await fetch(`${cdc.httpUrl}/metrics`, { keepalive: false })).text();
  const match = /^cascade_cdc_events_total\{(?=[^}]*table="public\.streamed")(?=[^}]*op="c")[^}]*\} (\d+)/m.exec(text);
  return Number(match?.[1] ?? 0);
}
