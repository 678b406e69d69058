import { type HistoryOptions, type HistoryOutcome, runHistory } from "./history.ts";
import { FAULTS, type Fault } from "./network.ts";

/** A history that fails, with as few kinds of faults and transactions as were found to be enough. */
export interface Shrunk {
  readonly options: HistoryOptions;
  readonly outcome: HistoryOutcome;
}

const MAX_TRIES = 40;
/** A history that is stuck takes seconds. */
const MAX_MS = 30_000;

/**
 * Leaves out kinds of faults one by one, and then transactions from the end, for as long as it still fails: whatever is left out, the same
 * chances are drawn for the rest. Null when it does not fail when it is run again.
 */
export function shrink(options: HistoryOptions): Shrunk | null {
  let best = fails(options);
  if (best === null) return null;
  let tries = 0;
  const startedAtMs = performance.now();
  const attempt = (smaller: HistoryOptions): boolean => {
    const isWorthIt = tries++ < MAX_TRIES && performance.now() - startedAtMs < MAX_MS;
    const found = isWorthIt ? fails(smaller) : null;
    if (found !== null) best = found;
    return found !== null;
  };
  const kinds = new Set<Fault>(options.faults ?? FAULTS);
  for (const kind of FAULTS) {
    const fewer = new Set(kinds);
    if (fewer.delete(kind) && attempt({ ...best.options, faults: fewer })) kinds.delete(kind);
  }
  for (let count = best.outcome.figures.transactions; count > 1; ) {
    const half = Math.floor(count / 2);
    count = attempt({ ...best.options, transactions: half })
      ? half
      : attempt({ ...best.options, transactions: count - 1 })
        ? count - 1
        : 0;
  }
  return best;
}

function fails(options: HistoryOptions): Shrunk | null {
  const outcome = runHistory({ ...options, trace: true });
  return outcome.failure === null ? null : { options, outcome };
}

/** How the history is run again. */
export function commandOf({ seed, faults, transactions, partitions, shards }: HistoryOptions): string {
  const without = FAULTS.filter((fault) => faults !== undefined && !faults.has(fault));
  return [
    `npm run simulate -- --seed ${seed} --histories 1`,
    ...(without.length > 0 ? [`--without ${without.join(",")}`] : []),
    ...(transactions === undefined ? [] : [`--transactions ${transactions}`]),
    ...(partitions === undefined ? [] : [`--partitions ${partitions}`]),
    ...(shards === undefined ? [] : [`--shards ${shards}`]),
  ].join(" ");
}
