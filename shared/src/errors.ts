import type { ErrorCode } from "./error-codes.ts";

/**
 * What to do about an error:
 * - `retry`: it heals by itself or by the operator elsewhere (a server is away): open fresh ports after a backoff, for ever.
 * - `stop-table`: this table cannot go on, the others can; held and tried again until the cause is mended.
 * - `refuse`: configuration, rights or preflight: exit 78 with the advice.
 * - `fatal`: going on would lose or damage data and no retry helps: exit 1 with the advice.
 */
export type Verdict = "retry" | "stop-table" | "refuse" | "fatal";

export interface CascadeErrorInit {
  /** What metrics, alerts and scripts match on. */
  readonly code: ErrorCode;
  readonly verdict: Verdict;
  /** Names the thing (variable, table, column, topic), never a row value or a secret. */
  readonly message: string;
  /** The cure, as an action the operator can take. */
  readonly advice: string;
  /** Verdict retry: pause before the next try, where it is known; else it grows with the failures. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** The one error type that crosses a port. Everything else that is thrown is a bug, and ends the process. */
export class CascadeError extends Error {
  override readonly name: string = "CascadeError";
  readonly code: ErrorCode;
  readonly verdict: Verdict;
  readonly advice: string;
  readonly retryAfterMs: number | null;

  constructor(init: CascadeErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.verdict = init.verdict;
    this.advice = init.advice;
    this.retryAfterMs = init.retryAfterMs ?? null;
  }
}

/** A value that the target cannot hold exactly. Stops the table: rounding or NULL would be silent loss. */
export class UnsupportedValueError extends CascadeError {
  override readonly name = "UnsupportedValueError";
}

/** Another router has moved the partition's progress, or its table: what this one holds is stale, and applying it would double it. */
export class FencedError extends CascadeError {
  override readonly name = "FencedError";
  constructor(topic: string, partition: number, what = `progress of ${topic}[${partition}]`) {
    super({
      code: "FENCED",
      verdict: "retry",
      message: `${what} was moved by another router`,
      advice: "nothing to do: this router goes on from the replica's progress",
    });
  }
}

/** `error` as text for logs and status, with its chain of causes. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof AggregateError && error.message === "") return error.errors.map(describeError).join("; ");
  const own = error.message || error.name;
  if (error.cause === undefined || error.cause === null) return own;
  const cause = describeError(error.cause);
  return own.includes(cause) ? own : `${own}: ${cause}`;
}
