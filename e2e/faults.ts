import type { Service } from "@cascade/local/stack.ts";
import type { Random } from "@cascade/workload/random";

/** A process that is killed and comes back. */
export interface Victim {
  readonly name: string;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<unknown>;
  /** Resolves when it is back, ready or not. */
  start(): Promise<unknown>;
}

/** A service that is started anew with the same settings after each kill. */
export async function serviceVictim<S extends Service<unknown>>(name: string, start: () => Promise<S>): Promise<Victim> {
  let service = await start();
  return {
    name,
    kill: () => service.kill(),
    start: async () => {
      service = await start();
    },
  };
}

export interface FaultPlan {
  readonly random: Random;
  readonly victims: readonly Victim[];
  /** How often each of them is killed. */
  readonly rounds: number;
  /** Longest time between two kills, and longest time away. */
  readonly pauseMs: number;
  readonly awayMs: number;
  readonly say: (line: string) => void;
}

/** Kills the victims in random order at random moments, sometimes two at once. */
export async function strike({ random, victims, rounds, pauseMs, awayMs, say }: FaultPlan): Promise<void> {
  const started = performance.now();
  const order = Array.from({ length: rounds }, () => shuffled(victims, random)).flat();
  let returning: Promise<unknown> = Promise.resolve();
  const backs = new Map<Victim, Promise<unknown>>();
  for (const victim of order) {
    await Bun.sleep(random.between(0, pauseMs));
    await backs.get(victim); // the last of a round may be the first of the next
    const [away, waits] = [random.between(0, awayMs), random.chance(0.7)];
    say(`${((performance.now() - started) / 1000).toFixed(1)} s: ${victim.name} is killed, for ${away} ms`);
    const back = victim
      .kill()
      .then(() => Bun.sleep(away))
      .then(() => victim.start());
    backs.set(victim, back);
    // Not waited for, the next victim falls while this one is away.
    returning = Promise.all([returning, back]);
    returning.catch(() => {});
    if (waits) await returning;
  }
  await returning;
}

function shuffled<T>(values: readonly T[], random: Random): readonly T[] {
  return values
    .map((value) => ({ value, place: random.fraction() }))
    .sort((one, other) => one.place - other.place)
    .map(({ value }) => value);
}
