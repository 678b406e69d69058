import { CascadeError } from "@cascade/shared/errors";
import type { Host, Scheduler } from "./scheduler.ts";

export type ServiceName = "main-db" | "kafka" | "replica";

/** What may go wrong, each counted. */
export const FAULTS = [
  /** A process is killed: all that it remembers is gone. */
  "crash",
  /** A process stands still for a while, and goes on as if nothing had been. */
  "freeze",
  /** A request does not reach the other side. */
  "refused",
  /** It does, and is carried out, and nobody learns of it. */
  "answer-lost",
  /** It does, long after whoever asked has given up or died. */
  "late",
  /** A process and a server cannot reach each other for a while. */
  "cut",
  /** A server is away for a while; main-db's slot may have forgotten its newest confirmations then. */
  "restart",
  /** Some topics of a request are written, and others are not. */
  "part-written",
  /** The group gives the partitions out anew. */
  "rebalance",
  /** Kafka deletes the beginning of a topic. */
  "retention",
  /** The stream ends, and the slot tells again what was not confirmed. */
  "stream-ends",
  /** The slot is dropped, or invalid, or advanced or made anew by somebody else. */
  "slot-lost",
  /** A replica begins to refuse some rows. */
  "row-refused",
] as const;
export type Fault = (typeof FAULTS)[number];

export interface FaultPlan {
  /** How often, from 0 to 1; null: never again. */
  rate: number;
  readonly kinds: ReadonlySet<Fault>;
}

/** Requests from simulated processes to simulated servers. */
export class Network {
  readonly counts = new Map<Fault, number>();
  readonly #scheduler: Scheduler;
  readonly #plan: FaultPlan;
  readonly #cuts = new Map<string, number>();
  readonly #downUntilMs = new Map<ServiceName, number>();

  constructor(scheduler: Scheduler, plan: FaultPlan) {
    this.#scheduler = scheduler;
    this.#plan = plan;
  }

  /** Whether the fault comes now. The same chance is drawn whether it may or not: leaving a kind out leaves the others where they were. */
  strikes(fault: Fault, probability: number): boolean {
    const drawn = this.#scheduler.random.next();
    if (drawn >= probability * this.#plan.rate || !this.#plan.kinds.has(fault)) return false;
    this.count(fault);
    return true;
  }

  count(fault: Fault): void {
    this.counts.set(fault, (this.counts.get(fault) ?? 0) + 1);
  }

  cut(host: Host, service: ServiceName, forMs: number): void {
    this.#cuts.set(`${host.name} ${service}`, this.#scheduler.nowMs + forMs);
  }

  down(service: ServiceName, forMs: number): void {
    this.#downUntilMs.set(service, this.#scheduler.nowMs + forMs);
  }

  reaches(host: Host, service: ServiceName): boolean {
    const { nowMs } = this.#scheduler;
    return (this.#cuts.get(`${host.name} ${service}`) ?? 0) <= nowMs && (this.#downUntilMs.get(service) ?? 0) <= nowMs;
  }

  /** How long a message takes. */
  latencyMs(): number {
    return this.#scheduler.random.skewed(0.1, 30);
  }

  /**
   * The current process asks; `work` is what the server does then. Rejects with a CascadeError that heals, where it is not known to be done.
   * @param risk how often something happens to it, beside others: a start that asks thirty things would never come to its end
   */
  call<T>(service: ServiceName, work: () => T | Promise<T>, risk = 1): Promise<T> {
    const scheduler = this.#scheduler;
    const host = scheduler.current;
    if (host === null) throw new TypeError("only a process asks");
    const refused = this.strikes("refused", 0.02 * risk);
    const lost = this.strikes("answer-lost", 0.03 * risk);
    const late = this.strikes("late", 0.02 * risk);
    const hangsMs = scheduler.random.chance(0.3) ? scheduler.random.between(1_000, 45_000) : 0;
    return new Promise<T>((resolve, reject) => {
      const fail = (delayMs: number) => void scheduler.after(delayMs, host, () => reject(unavailable(service)));
      if (refused || !this.reaches(host, service)) return fail(this.latencyMs() + (refused ? hangsMs : 0));
      const carryOut = async () => {
        if ((this.#downUntilMs.get(service) ?? 0) > scheduler.nowMs) return fail(this.latencyMs());
        try {
          const result = await work();
          if (lost || !this.reaches(host, service)) fail(this.latencyMs() + hangsMs);
          else scheduler.after(this.latencyMs(), host, () => resolve(result));
        } catch (error) {
          scheduler.after(this.latencyMs(), host, () => reject(error));
        }
      };
      // On its way it is nobody's: whoever sent it may be dead when it arrives.
      if (late) {
        fail(scheduler.random.between(100, 5_000));
        scheduler.after(scheduler.random.skewed(50, 15_000), null, () => void carryOut().catch(() => undefined));
        return;
      }
      const isOut = scheduler.random.chance(0.5);
      scheduler.after(this.latencyMs(), isOut ? null : host, () => void carryOut());
    });
  }
}

const AWAY = { "main-db": "MAIN_DB_AWAY", kafka: "KAFKA_UNAVAILABLE", replica: "REPLICA_UNAVAILABLE" } as const;

const unavailable = (service: ServiceName): CascadeError =>
  new CascadeError({
    code: AWAY[service],
    verdict: "retry",
    message: `${service} does not answer`,
    advice: "nothing to do: it is simulated",
  });
