import { CascadeError } from "@cascade/shared/errors";
import type { Logger } from "@cascade/shared/logging";
import { backoffMs, pause } from "@cascade/shared/retry";
import type { ServiceContext } from "@cascade/shared/service";
import { ServiceHealth } from "@cascade/shared/service-health";
import { SILENT_TELEMETRY } from "@cascade/shared/testing/silent-telemetry";
import type { Host, Scheduler } from "./scheduler.ts";

export interface Witness {
  /** What no history may come to. */
  violated(what: string): void;
  /** For whoever reads a history that failed. */
  tell(host: Host | null, text: () => string): void;
}

/** One life of a service; rejects as the real one does. */
export type Live = (host: Host, signal: AbortSignal) => Promise<void>;

/** What outlives one process: the machine it runs on, which starts it again. */
export class Machine {
  readonly name: string;
  readonly #scheduler: Scheduler;
  readonly #witness: Witness;
  readonly #start: (host: Host) => Live;
  readonly #mayEndBy: (error: CascadeError) => boolean;
  #starts = 0;
  host: Host;

  /**
   * @param start a process's first steps: what it remembers over its lives begins here
   * @param mayEndBy what is not to be tried again, and ends the process; it is started anew a while after
   */
  constructor(
    name: string,
    scheduler: Scheduler,
    witness: Witness,
    start: (host: Host) => Live,
    mayEndBy: (error: CascadeError) => boolean = () => false,
  ) {
    this.name = name;
    this.#scheduler = scheduler;
    this.#witness = witness;
    this.#start = start;
    this.#mayEndBy = mayEndBy;
    this.host = this.#boot(0);
  }

  #boot(delayMs: number): Host {
    const host: Host = { name: `${this.name}.${++this.#starts}`, alive: true, frozenUntilMs: 0 };
    this.#scheduler.after(delayMs, host, () => {
      this.#liveOn(host, this.#start(host)).catch((error: unknown) => {
        if (error instanceof CascadeError && this.#mayEndBy(error)) {
          this.#witness.tell(host, () => `ends by ${error.code} ${error.message}`);
          host.alive = false;
          this.host = this.#boot(this.#scheduler.random.skewed(500, 20_000));
          return;
        }
        const stack = error instanceof Error ? error.stack : "";
        this.#witness.violated(
          `${host.name} ended by ${error instanceof CascadeError ? error.code : "a bug"}: ${error}\n${stack}`,
        );
      });
    });
    return host;
  }

  kill(restartAfterMs: number): void {
    this.#witness.tell(this.host, () => "is killed");
    this.host.alive = false;
    this.host = this.#boot(restartAfterMs);
  }

  freeze(forMs: number): void {
    this.#witness.tell(this.host, () => `is frozen for ${Math.round(forMs)} ms`);
    this.host.frozenUntilMs = this.#scheduler.nowMs + forMs;
  }

  /** As runService does. */
  async #liveOn(host: Host, live: Live): Promise<void> {
    const never = new AbortController().signal;
    for (let failures = 1; ; failures++) {
      const startedAtMs = performance.now();
      try {
        await live(host, never);
        throw new Error("the pipeline ended by itself");
      } catch (error) {
        if (!(error instanceof CascadeError) || error.verdict !== "retry") throw error;
        // A standby looks every second.
        if (error.code !== "SLOT_ACTIVE") this.#witness.tell(host, () => `ends a life: ${error.code} ${error.message}`);
        if (performance.now() - startedAtMs > 10_000) failures = 1;
        await pause(error.retryAfterMs ?? backoffMs(failures), never);
      }
    }
  }
}

/** A service's surroundings, without a log, spans and metrics. */
export function quietContext(host: Host, witness: Witness): ServiceContext {
  const log = (level: string) => (fields: unknown, text?: string) => {
    // What is tried again and again is told of there.
    if (level !== "debug") witness.tell(host, () => `${level}: ${text ?? String(fields)}`);
  };
  const levels = ["debug", "info", "warn", "error", "fatal", "trace"];
  const logger: Pick<Logger, "debug" | "info" | "warn" | "error"> = Object.fromEntries(
    levels.map((level) => [level, log(level)]),
  ) as never;
  return { logger: logger as Logger, telemetry: SILENT_TELEMETRY, health: new ServiceHealth() };
}
