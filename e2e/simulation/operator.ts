import { CascadeError } from "@cascade/shared/errors";
import { encodeSnapshotRequest } from "@cascade/shared/snapshot-request";
import { signalsTopic } from "@cascade/shared/topic";
import { discardHeld, type LettersWorld, replayHeld } from "./dead-letters.ts";
import type { SimulatedKafka } from "./kafka.ts";
import type { MainDb } from "./main-db.ts";
import type { Network } from "./network.ts";
import type { Witness } from "./process.ts";
import type { SimulatedReplica } from "./replica.ts";
import { isOfAPart } from "./resharding.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { PREFIX } from "./slot-source.ts";
import { heldId, MAX_ID } from "./tables.ts";

export interface OperatorWorld {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly mainDb: MainDb;
  readonly kafka: SimulatedKafka;
  readonly witness: Witness;
}

/** Replay takes so many bytes of letters at once at most, or more: a group is applied in parts now and then. */
const MAX_BYTES = [150, 600, 16_000_000] as const;

/** Who gives the commands, at any time. */
export class Operator {
  readonly #world: OperatorWorld;
  #commands = 0;

  constructor(world: OperatorWorld) {
    this.#world = world;
  }

  /** As somebody may at any time: of all tables or one, for every replica or one. */
  askForCopy(replicas: readonly SimulatedReplica[]): void {
    const { random } = this.#world.scheduler;
    const { mainDb } = this.#world;
    const tables = random.chance(0.5) ? ["public.*"] : [`public.${random.pick([...mainDb.tables.values()]).schema.table}`];
    this.#ask(tables, random.chance(0.5) ? null : random.pick(replicas));
  }

  #ask(tables: string[], replica: SimulatedReplica | null): void {
    const value = encodeSnapshotRequest({ type: "snapshot", tables, ...(replica !== null && { replica: replica.name }) });
    this.#world.kafka.append(signalsTopic(PREFIX), [{ key: `asked-${++this.#commands}`, value }]);
  }

  /** Of some keys, or all. */
  replay(replica: SimulatedReplica): void {
    const { random } = this.#world.scheduler;
    const most = random.chance(0.5) ? MAX_ID : random.between(1, MAX_ID);
    const maxBytes = random.pick(MAX_BYTES);
    this.#command(replica, "replay", async (world) => {
      const { released, failed } = await replayHeld(world, (key) => heldId(key) <= most, maxBytes);
      return `${released.length} released, ${failed.length} held still`;
    });
  }

  /**
   * And copies the tables of what the command says it gives up, whatever becomes of the command then: a copy for one replica empties the
   * table there first.
   */
  discard(replica: SimulatedReplica): void {
    const { scheduler } = this.#world;
    let isTold = false;
    const givingUp = (): void => {
      if (isTold) return;
      isTold = true;
      scheduler.after(scheduler.random.skewed(1_000, 20_000), null, () => this.#ask(["public.*"], replica));
    };
    this.#command(replica, "discard", async (world) => `${(await discardHeld(world, givingUp)).length} discarded`);
  }

  /** A process of its own, which may be killed. */
  #command(replica: SimulatedReplica, name: string, work: (world: LettersWorld) => Promise<string>): void {
    const { scheduler, network, kafka, witness } = this.#world;
    const host: Host = { name: `${name}-${++this.#commands}`, alive: true, frozenUntilMs: 0 };
    if (network.strikes("crash", 0.1)) {
      scheduler.after(scheduler.random.skewed(1, 5_000), null, () => {
        host.alive = false;
      });
    }
    scheduler.after(0, host, () => {
      work({ kafka, network, replica }).then(
        (told) => witness.tell(host, () => told),
        (error: unknown) => {
          witness.tell(host, () => `ends by ${error}`);
          // It was given in the words of the part from before.
          const isOfThePart = (one: CascadeError) => replica.isSplit && isOfAPart(one);
          if (error instanceof CascadeError && (error.verdict === "retry" || isOfThePart(error))) return;
          witness.violated(`${host.name} ended by ${error}\n${error instanceof Error ? error.stack : ""}`);
        },
      );
    });
  }
}
