import type { CascadeError } from "@cascade/shared/errors";
import type { Logger } from "@cascade/shared/logging";
import type { Telemetry } from "@cascade/shared/telemetry";
import { formatTableName } from "@cascade/shared/topic";
import type { Copy } from "./copies.ts";
import { INITIAL } from "./copy-job.ts";
import type { SnapshotReport } from "./report.ts";

const LOG_INTERVAL_MS = 10_000;

interface Row {
  readonly copy: Copy;
  startedAtMs: number | null;
  /** Rows that a former life has published. */
  rowsBefore: number;
  rowsTold: number;
  loggedAtMs: number;
}

export interface CopyProgress {
  readonly request: string;
  readonly table: string;
  readonly replica: string | null;
  readonly status: string;
  readonly rows: number;
  readonly estimatedRows: number | null;
  readonly percent: number | null;
  readonly rowsPerSecond: number | null;
  readonly etaSeconds: number | null;
  readonly error: object | null;
}

/** How copies get on: log lines, `/status` and metrics. Outlives the lives. */
export class SnapshotProgress implements SnapshotReport {
  readonly #logger: Logger;
  readonly #telemetry: Telemetry;
  #rows = new Map<Copy, Row>();

  constructor(logger: Logger, telemetry: Telemetry) {
    this.#logger = logger;
    this.#telemetry = telemetry;
    telemetry.observe("cascade_cdc_snapshot_remaining_rows", () =>
      [...this.#rows.values()].map(({ copy }) => {
        const { rows, estimatedRows } = copy.state;
        return { value: Math.max(0, (estimatedRows ?? 0) - rows), labels: { table: formatTableName(copy.job.name) } };
      }),
    );
  }

  /** A new life: what was under way is told of anew. */
  reset(): void {
    this.#rows = new Map();
  }

  toJSON(): readonly CopyProgress[] {
    return [...this.#rows.values()].map(progressOf);
  }

  /** Why cdc is not ready although it runs. */
  reasons(): readonly string[] {
    return [...this.#rows.values()].flatMap(({ copy }) =>
      copy.state.error === null ? [] : [`${copy.state.error.code}: ${copy.state.error.message}`],
    );
  }

  waiting(copy: Copy): void {
    this.#rows.set(copy, { copy, startedAtMs: null, rowsBefore: copy.state.rows, rowsTold: copy.state.rows, loggedAtMs: 0 });
  }

  begins(copy: Copy): void {
    const row = this.#row(copy);
    row.startedAtMs = row.loggedAtMs = performance.now();
    const { rows, estimatedRows } = copy.state;
    this.#logger.info({ ...fieldsOf(copy), rows, estimatedRows }, `copying ${formatTableName(copy.job.name)}`);
  }

  progress(copy: Copy): void {
    const row = this.#row(copy);
    this.#count(row);
    const now = performance.now();
    if (now - row.loggedAtMs < LOG_INTERVAL_MS) return;
    row.loggedAtMs = now;
    this.#logger.info({ ...progressOf(row) }, `copying ${formatTableName(copy.job.name)}`);
  }

  #count(row: Row): void {
    const { rows } = row.copy.state;
    const more = rows - row.rowsTold;
    row.rowsTold = rows;
    if (more > 0) this.#telemetry.add("cascade_cdc_snapshot_rows_total", more, { table: formatTableName(row.copy.job.name) });
  }

  ended(copy: Copy): void {
    const row = this.#row(copy);
    this.#count(row);
    this.#rows.delete(copy);
    const seconds = row.startedAtMs === null ? 0 : (performance.now() - row.startedAtMs) / 1000;
    const fields = { ...fieldsOf(copy), rows: copy.state.rows, seconds: Number(seconds.toFixed(1)) };
    if (copy.state.status === "done") this.#logger.info(fields, `copied ${formatTableName(copy.job.name)}`);
    else this.#logger.warn(fields, `${formatTableName(copy.job.name)} is not copied`);
  }

  replaced(copy: Copy): void {
    this.#rows.delete(copy);
  }

  refused(copy: Copy, { code, message, advice }: CascadeError): void {
    this.#logger.warn({ ...fieldsOf(copy), code, advice }, message);
  }

  accepted(request: string, copies: readonly Copy[]): void {
    this.#logger.info({ request, tables: copies.map(({ job }) => formatTableName(job.name)) }, "a snapshot is asked for");
  }

  warn(message: string): void {
    this.#logger.warn(message);
  }

  #row(copy: Copy): Row {
    const row = this.#rows.get(copy) ?? [...this.#rows.values()].find(({ copy: { job } }) => job === copy.job);
    if (row !== undefined && row.copy === copy) return row;
    // Begun anew as another copy of the same table.
    if (row !== undefined) this.#rows.delete(row.copy);
    this.waiting(copy);
    return this.#rows.get(copy) as Row;
  }
}

const fieldsOf = ({ job }: Copy) => ({
  table: formatTableName(job.name),
  ...(job.request === INITIAL ? {} : { request: job.request }),
  ...(job.replica === null ? {} : { replica: job.replica }),
});

function progressOf({ copy, startedAtMs, rowsBefore }: Row): CopyProgress {
  const { job, state } = copy;
  const { rows, estimatedRows } = state;
  const seconds = startedAtMs === null ? 0 : (performance.now() - startedAtMs) / 1000;
  const rate = seconds > 0 ? (rows - rowsBefore) / seconds : null;
  const share = estimatedRows === null || estimatedRows === 0 ? null : Math.min(1, rows / estimatedRows);
  const left = estimatedRows === null ? null : Math.max(0, estimatedRows - rows);
  return {
    request: job.request,
    table: formatTableName(job.name),
    replica: job.replica,
    status: state.status,
    rows,
    estimatedRows,
    percent: share === null ? null : Math.floor(share * 100),
    rowsPerSecond: rate === null ? null : Math.round(rate),
    etaSeconds: left === null || rate === null || rate === 0 ? null : Math.round(left / rate),
    error: state.error,
  };
}
