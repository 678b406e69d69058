import type { CascadeError } from "./errors.ts";
import { errorText } from "./logging.ts";

export type ServiceState = "starting" | "running" | "retrying";

export interface ErrorReport {
  readonly code: string;
  readonly message: string;
  readonly advice: string;
  /** ISO 8601, UTC. */
  readonly at: string;
}

export const reportOf = (error: CascadeError): ErrorReport => ({
  code: error.code,
  message: errorText(error),
  advice: error.advice,
  at: new Date().toISOString(),
});

/** Told again this often while it lasts. */
const REMIND_MS = 60_000;

/** Where a service is in its lives, for /health/ready, /status and the log. */
export class ServiceHealth {
  #state: ServiceState = "starting";
  #lastError: ErrorReport | null = null;
  #runningSince: number | null = null;
  #toldAt = 0;
  #silence: string | null = null;
  #waiting: string | null = null;

  get state(): ServiceState {
    return this.#state;
  }

  get lastError(): ErrorReport | null {
    return this.#lastError;
  }

  /** All ports are open. */
  running(): void {
    this.#state = "running";
    this.#runningSince = performance.now();
  }

  /** Somebody does not answer, and may yet; null when it does. */
  silent(reason: string | null): void {
    this.#silence = reason;
  }

  /** What must come about before a life can run; null when it has. */
  waiting(reason: string | null): void {
    this.#waiting = reason;
  }

  /** A life ended with an error that heals. True when that is news worth a line in the log. */
  failed(error: CascadeError): boolean {
    const now = performance.now();
    const news = this.#state !== "retrying" || this.#lastError?.code !== error.code || now - this.#toldAt > REMIND_MS;
    if (news) this.#toldAt = now;
    this.#state = "retrying";
    this.#silence = this.#waiting = null;
    this.#lastError = reportOf(error);
    this.#runningSince = null;
    return news;
  }

  /** How long the present or last life has had all its ports open, 0 when it never had. */
  ranForMs(): number {
    return this.#runningSince === null ? 0 : performance.now() - this.#runningSince;
  }

  reasons(): readonly string[] {
    if (this.#waiting !== null) return [this.#waiting];
    switch (this.#state) {
      case "running":
        return this.#silence === null ? [] : [this.#silence];
      case "starting":
        return ["starting: not connected yet"];
      case "retrying":
        return [this.#lastError === null ? "retrying" : `${this.#lastError.code}: ${this.#lastError.message}`];
    }
  }
}
