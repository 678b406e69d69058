import type { SnapshotReport } from "../src/snapshot/report.ts";

/** Says nothing to anybody. */
export const SILENT: SnapshotReport = {
  waiting() {},
  begins() {},
  progress() {},
  ended() {},
  replaced() {},
  refused() {},
  accepted() {},
  warn() {},
};
