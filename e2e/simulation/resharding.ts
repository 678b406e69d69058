import { type RunningCopy, runningOf } from "@cascade/shard-router/src/kafka/copy-states.ts";
import type { PartitionEnd } from "@cascade/shard-router/src/kafka/stream-end.ts";
import { reshard } from "@cascade/shard-router/src/reshard.ts";
import { NOWHERE } from "@cascade/shard-router/src/shard-drop.ts";
import { CascadeError } from "@cascade/shared/errors";
import { signalsTopic, type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { Part } from "./division.ts";
import type { OperatorWorld } from "./operator.ts";
import type { Machine } from "./process.ts";
import type { SimulatedReplica } from "./replica.ts";
import type { Host } from "./scheduler.ts";
import { SchemaReader } from "./schema-reader.ts";
import { PREFIX } from "./slot-source.ts";
import { ID, textOf } from "./tables.ts";

export interface Split {
  /** Gives rows up. */
  readonly replica: SimulatedReplica;
  /** Which part it keeps. */
  readonly to: Part;
  /** Was made for the others. */
  readonly beside: SimulatedReplica;
  readonly mayCopy: boolean;
  /** Those of `replica`. */
  readonly routers: readonly Machine[];
}

/** How routers, and commands, by other rules than the replica's end. */
export const isOfAPart = ({ code }: CascadeError): boolean => code === "SHARD_CHANGED";

/**
 * Somebody makes two shards of one by the project's own command, whenever it is killed again, and tells the routers of the new part some time
 * after it has been taken.
 */
export class Resharding {
  readonly #world: OperatorWorld;
  readonly #split: Split;
  #tries = 0;
  #hasTold = false;
  /** The command has said so. */
  isDone = false;

  constructor(world: OperatorWorld, split: Split) {
    this.#world = world;
    this.#split = split;
    // A copy may empty a table there at any time.
    if (!split.mayCopy)
      split.replica.aroundSettle = ({ topic }, settle) => (topic === NOWHERE.topic ? this.#checkDrop(settle) : settle());
    world.scheduler.after(world.scheduler.random.skewed(0, 60_000), null, () => this.#try());
  }

  /**
   * Whether a router of the replica may end by this. Those of the new part are refused where one of the old part took the replica back, as it had
   * no table yet: the command is to be given again.
   */
  refuses(error: CascadeError): boolean {
    if (isOfAPart(error) && this.isDone && this.#split.replica.part === this.#split.to) {
      this.isDone = false;
      this.#try();
    }
    return isOfAPart(error);
  }

  #try(): void {
    const { scheduler, network, witness } = this.#world;
    const host: Host = { name: `reshard-${++this.#tries}`, alive: true, frozenUntilMs: 0 };
    const again = (afterMs: number): void => void scheduler.after(afterMs, null, () => this.#try());
    if (network.strikes("crash", 0.4)) {
      const livesMs = scheduler.random.skewed(1, 20_000);
      scheduler.after(livesMs, null, () => {
        if (this.isDone || !host.alive) return;
        witness.tell(host, () => "is killed");
        host.alive = false;
        again(scheduler.random.skewed(100, 20_000));
      });
    }
    scheduler.after(0, host, () => {
      this.#run(host).then(
        () => {
          this.isDone = true;
        },
        (error: unknown) => {
          witness.tell(host, () => `ends by ${error}`);
          if (!(error instanceof CascadeError) || error.verdict === "fatal")
            witness.violated(`${host.name} ended by ${error}\n${error instanceof Error ? error.stack : ""}`);
          host.alive = false;
          again(scheduler.random.skewed(500, 10_000));
        },
      );
    });
  }

  async #run(host: Host): Promise<void> {
    const { kafka, network, scheduler, witness } = this.#world;
    const { replica, to, beside } = this.#split;
    await using opened = await replica.open();
    await using schemas = new SchemaReader(kafka, network, () => undefined);
    const ports: Parameters<typeof reshard>[0] = {
      replica: opened,
      name: replica.name,
      beside: [{ name: beside.name, open: () => beside.open() }],
      schemas,
      end: () => network.call("kafka", () => this.#end()),
      copies: () => network.call("kafka", () => this.#copies()),
      say: (line) => {
        witness.tell(host, () => line);
        if (/from now on|^going on|nothing to do|^done/.test(line)) this.#tellRouters();
      },
      pageRows: scheduler.random.between(1, 6),
    };
    const { shard, rules } = to.ownership;
    await reshard(ports, { shard, rules, timeoutMs: null });
  }

  /** Of a row that is dropped as main-db has it, the replica beside has some version: at no time it is on none. */
  async #checkDrop(drop: () => Promise<void>): Promise<void> {
    const { mainDb, witness } = this.#world;
    const { replica, beside } = this.#split;
    const rowsOf = async () =>
      new Map((await replica.remembered()).map((table) => [table.oid, replica.rows(table).map(textOf)] as const));
    const before = await rowsOf();
    await drop();
    const after = await rowsOf();
    for (const table of await beside.remembered()) {
      const ids = new Set(beside.rows(table).map((row) => row.get(ID)));
      const left = new Set(after.get(table.oid));
      const dropped = new Set(before.get(table.oid)?.filter((text) => !left.has(text)));
      const lost = mainDb.tables.get(table.oid)?.rows.all.find((row) => dropped.has(textOf(row)) && !ids.has(row.get(ID)));
      if (lost !== undefined)
        witness.violated(`a row is dropped from ${replica.name} that is not on ${beside.name}: ${textOf(lost)}`);
    }
  }

  #tellRouters(): void {
    if (this.#hasTold) return;
    this.#hasTold = true;
    const { scheduler } = this.#world;
    const { replica, to, routers } = this.#split;
    scheduler.after(scheduler.random.skewed(10, 60_000), null, () => {
      replica.part = to;
      for (const router of routers)
        scheduler.after(scheduler.random.skewed(0, 20_000), null, () => router.kill(scheduler.random.skewed(10, 5_000)));
    });
  }

  /** As `streamEnd` finds it. */
  #end(): readonly PartitionEnd[] {
    const { kafka } = this.#world;
    return [...kafka.topics.keys()].toSorted().flatMap((topic) => {
      const table: TableName | null = tableOfTopic(PREFIX, topic);
      if (table === null) return [];
      const numbers = Array.from({ length: kafka.partitions(topic) }, (_, partition) => partition);
      return numbers.map((partition) => ({ topic, partition, table, end: BigInt(kafka.end(topic, partition)) }));
    });
  }

  /** As `runningCopies` finds them. */
  #copies(): readonly RunningCopy[] {
    const states = new Map(this.#world.kafka.read(signalsTopic(PREFIX), 0).map(({ key, value }) => [key, value]));
    return [...states.values()].flatMap((value) => (value === null ? [] : runningOf(value)));
  }
}
