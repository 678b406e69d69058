import { compareReplica, compareShards, isEqual, type TableComparison } from "@cascade/local/canonical-state.ts";
import { describeError } from "@cascade/shared/errors";
import type { Pipeline } from "./pipeline.ts";

export interface Whole {
  /** Of the shards, which are replicas of one main-db. */
  readonly urls: readonly string[];
  /** Patterns: each row on one of them, all of the table on each of them. */
  readonly divided: string;
  readonly everywhere: string;
}

/** Slow is not stuck: as long as the difference becomes another one, it is waited. */
const STALLED_MS = 60_000;
const PAUSE_MS = 500;

/** Until the shards are main-db together, each row once. Rejects, with every log, when what differs has been the same for a minute. */
export async function untilWhole(pipeline: Pipeline, { urls, divided, everywhere }: Whole): Promise<void> {
  let last = "";
  for (let sinceMs = performance.now(); ; ) {
    const differs = await difference(pipeline.mainUrl, { urls, divided, everywhere }).catch(describeError);
    if (differs === "") return;
    if (differs !== last) sinceMs = performance.now();
    else if (performance.now() - sinceMs > STALLED_MS)
      throw new Error(`the shards are not main-db: ${differs}\n${pipeline.logs()}`);
    last = differs;
    await Bun.sleep(PAUSE_MS);
  }
}

async function difference(mainUrl: string, { urls, divided, everywhere }: Whole): Promise<string> {
  const found: TableComparison[] = [...(await compareShards(mainUrl, urls, divided))];
  for (const url of urls) found.push(...(await compareReplica(mainUrl, url, everywhere)));
  const wrong = found.filter((table) => !isEqual(table));
  return wrong.length === 0 ? "" : JSON.stringify(wrong);
}
