import { pause } from "@cascade/shared/retry";
import type pg from "pg";

const FIRST_LOOK_MS = 1_000;
const INTERVAL_MS = 2_000;
const REMIND_MS = 60_000;

interface Blocker {
  /** 0: a prepared transaction. */
  readonly pid: number;
  readonly database: string | null;
  readonly application: string | null;
  /** Since the transaction began; null without the right to see it. */
  readonly seconds: number | null;
}

// Whoever may not see others' sessions still sees who holds a lock.
const BLOCKERS = `
  SELECT b.pid, a.datname AS database, nullif(a.application_name, '') AS application,
         extract(epoch FROM clock_timestamp() - a.xact_start)::int AS seconds
    FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid
   ORDER BY a.xact_start NULLS LAST, b.pid`;

export interface BlockedOptions {
  /** Whose statement may have to wait. */
  readonly client: pg.Client;
  /** Another session of the server, free meanwhile. */
  readonly watcher: pg.Client;
  /** What is being done, "creating the slot" for one. */
  readonly doing: string;
  /** Told every few seconds while it waits, and null at the end. */
  readonly waiting: (reason: string | null) => void;
  readonly warn: (message: string) => void;
}

/** Does `work` on the client's session, and says who keeps it waiting when something does. */
export async function tellingBlockers<T>(options: BlockedOptions, work: () => Promise<T>): Promise<T> {
  const { rows } = await options.client.query<{ readonly pid: number }>("SELECT pg_backend_pid() AS pid");
  const done = new AbortController();
  const watching = watch(options, rows[0]?.pid ?? 0, done.signal);
  try {
    return await work();
  } finally {
    done.abort();
    await watching;
    options.waiting(null);
  }
}

async function watch({ watcher, doing, waiting, warn }: BlockedOptions, pid: number, signal: AbortSignal): Promise<void> {
  let toldAtMs = Number.NEGATIVE_INFINITY;
  for (await pause(FIRST_LOOK_MS, signal); !signal.aborted; await pause(INTERVAL_MS, signal)) {
    // What becomes of the work is for that to say; this only tells.
    const blockers = await watcher.query<Blocker>(BLOCKERS, [pid]).then(
      ({ rows }) => rows,
      () => [],
    );
    const [first, ...others] = blockers;
    if (first === undefined || signal.aborted) continue;
    const message = `${doing} waits until ${describe(first)} has ended${others.length === 0 ? "" : `, and ${others.length} more`}`;
    waiting(message);
    if (performance.now() - toldAtMs < REMIND_MS) continue;
    toldAtMs = performance.now();
    warn(`${message}; let it commit or roll back${cure(first)}`);
  }
}

function describe({ pid, database, application, seconds }: Blocker): string {
  if (pid === 0) return "a prepared transaction of main-db (pg_prepared_xacts)";
  const details = [
    ...(application === null ? [] : [application]),
    ...(database === null ? [] : [`database ${database}`]),
    ...(seconds === null ? [] : [`open for ${seconds} s`]),
  ];
  return `the transaction of main-db's process ${pid}${details.length === 0 ? "" : ` (${details.join(", ")})`}`;
}

const cure = ({ pid }: Blocker): string =>
  pid === 0 ? " (ROLLBACK PREPARED)" : `, or end its session: SELECT pg_terminate_backend(${pid})`;
