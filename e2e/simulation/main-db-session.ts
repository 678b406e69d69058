import { CascadeError } from "@cascade/shared/errors";
import type { MainDb } from "./main-db.ts";
import type { Network } from "./network.ts";
import type { Host, Scheduler } from "./scheduler.ts";

/** A holder of the slot's lock that has not beaten for so long is ended by whoever waits for it (`StandbyWatch`). */
const FROZEN_MS = 10_000;
const BEAT_MS = 1_000;

/** All connections of one life of a cdc to main-db: they end together. */
export interface Session {
  readonly host: Host;
  beatAtMs: number;
  ended: boolean;
}

export interface SessionWorld {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly mainDb: MainDb;
}

/** A life's connections to main-db, and the lock that lets one cdc alone have the slot, as `SlotHolder` takes it. */
export class SimulatedSession implements AsyncDisposable {
  readonly #world: SessionWorld;
  readonly #session: Session;
  readonly #lost = Promise.withResolvers<never>();
  #isOver = false;

  private constructor(world: SessionWorld, session: Session) {
    this.#world = world;
    this.#session = session;
    this.#lost.promise.catch(() => undefined); // `lost` says it
    this.#beat();
  }

  /** @param held rejects so while another one has the lock; told whether that one was just ended */
  static async take(world: SessionWorld, held: (ended: boolean) => Error): Promise<SimulatedSession> {
    const { network, mainDb, scheduler } = world;
    const session: Session = { host: scheduler.current as Host, beatAtMs: scheduler.nowMs, ended: false };
    try {
      await network.call("main-db", () => {
        const { lock } = mainDb;
        if (lock?.host.alive) {
          const isFrozen = scheduler.nowMs - lock.beatAtMs > FROZEN_MS;
          if (isFrozen) mainDb.end(lock);
          throw held(isFrozen);
        }
        if (session.ended) throw gone();
        // What a dead one has sent may still arrive; who streams to it finds out by itself.
        session.beatAtMs = scheduler.nowMs;
        mainDb.lock = session;
      });
    } catch (error) {
      mainDb.end(session);
      throw error;
    }
    return new SimulatedSession(world, session);
  }

  /** Rejects when the lock may be another's by now. */
  get lost(): Promise<never> {
    return this.#lost.promise;
  }

  get session(): Session {
    return this.#session;
  }

  call<T>(work: () => T, risk = 1): Promise<T> {
    const carryOut = () => {
      if (this.#session.ended) throw gone();
      return work();
    };
    return this.#world.network.call("main-db", carryOut, risk);
  }

  #beat(): void {
    if (this.#isOver) return;
    const { network, scheduler } = this.#world;
    const { host } = this.#session;
    if (this.#session.ended || !network.reaches(host, "main-db")) {
      this.#lost.reject(gone());
      return;
    }
    this.#session.beatAtMs = scheduler.nowMs;
    scheduler.after(BEAT_MS, host, () => this.#beat());
  }

  /** Where main-db cannot be reached it does not learn of it: whoever waits ends what does not move. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    const { network, mainDb } = this.#world;
    if (network.reaches(this.#session.host, "main-db")) mainDb.end(this.#session);
  }
}

const gone = (): CascadeError =>
  new CascadeError({
    code: "MAIN_DB_AWAY",
    verdict: "retry",
    message: "the session on main-db is over",
    advice: "nothing to do: it is simulated",
  });
