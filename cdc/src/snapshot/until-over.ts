import { pause } from "@cascade/shared/retry";
import { sees } from "../postgres/snapshot.ts";
import type { SnapshotReport } from "./report.ts";
import type { TableReader } from "./table-reader.ts";

const PAUSE_MS = 20;
const TELL_AFTER_MS = 1_000;
/** Transactions that others see a moment after the stream has brought them are over after this long. */
const MOMENT_MS = 1_000;

/** Resolves when the transactions that are under way now are over, as far as the stream may have brought them. */
export async function untilOver(reader: TableReader, report: SnapshotReport, signal: AbortSignal): Promise<void> {
  const startedAtMs = performance.now();
  const underWay = [...(await reader.snapshot()).underWay].map((id) => Number(id & 0xffff_ffffn));
  const waitsForStandby = await reader.waitsForStandby();
  for (let told = false; underWay.length > 0 && !signal.aborted; ) {
    const snapshot = await reader.snapshot();
    if (underWay.every((txId) => sees(snapshot, txId))) return;
    const waitedMs = performance.now() - startedAtMs;
    if (waitedMs > MOMENT_MS && !waitsForStandby) return;
    if (waitedMs > TELL_AFTER_MS && !told) {
      told = true;
      report.warn("tables are copied once the transactions that are under way on main-db are over: some may wait for a standby");
    }
    await pause(PAUSE_MS, signal);
  }
}
