import { Database } from "bun:sqlite";
import { type Partition, partitionKey } from "@cascade/shard-router/src/event-consumer.ts";
import type { HeldKey } from "@cascade/shard-router/src/held-keys.ts";
import type { Advance, Progress, RememberedTable, Replica } from "@cascade/shard-router/src/replica.ts";
import type { RememberedPart } from "@cascade/shard-router/src/replicas/part-store.ts";
import { openSqliteReplica } from "@cascade/shard-router/src/replicas/sqlite.ts";
import { comparePositions } from "@cascade/shared/lsn";
import { tableOfTopic } from "@cascade/shared/topic";
import type { Part } from "./division.ts";
import type { Network } from "./network.ts";
import type { Witness } from "./process.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { PREFIX } from "./slot-source.ts";
import { COUNT, type Row, tableText, type Value } from "./tables.ts";

export interface ReplicaWorld {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly witness: Witness;
  readonly mayRefuse: boolean;
  /** null: it has all of main-db. */
  readonly part: Part | null;
  /** It gives some of its part to another on the way. */
  readonly isSplit: boolean;
}

/** One replica: the project's own SQLite replica, in memory, behind a network that loses answers. */
export class SimulatedReplica implements Disposable {
  readonly name: string;
  /** As its routers are told it, from their next start on. */
  part: Part | null;
  readonly isSplit: boolean;
  readonly #network: Network;
  readonly #witness: Witness;
  readonly #scheduler: Scheduler;
  readonly #mayRefuse: boolean;
  readonly #database = new Database(":memory:");
  readonly #engine: Promise<Replica>;
  #opened: Replica | null = null;
  /** Called after every commit. */
  onCommit: (partition: Partition) => Promise<void> = async () => undefined;
  /** Carries out what a command commits. */
  aroundSettle: (partition: Partition, settle: () => Promise<void>) => Promise<void> = (_, settle) => settle();
  commits = 0;
  fenced = 0;
  /** Of commands, which make no step. */
  settled = 0;

  constructor(name: string, world: ReplicaWorld) {
    this.name = name;
    this.part = world.part;
    this.isSplit = world.isSplit;
    this.#mayRefuse = world.mayRefuse;
    this.#network = world.network;
    this.#witness = world.witness;
    this.#scheduler = world.scheduler;
    this.#database.run("CREATE TABLE refusing (one_in)");
    this.#database.run("INSERT INTO refusing VALUES (0)");
    this.#engine = openSqliteReplica(":memory:", { connect: () => this.#database });
    void this.#engine.then((engine) => {
      this.#opened = engine;
    });
  }

  /** A connection of the current process. */
  open(): Promise<Replica> {
    const host = this.#scheduler.current;
    const call = <T>(work: (engine: Replica) => Promise<T>) =>
      this.#network.call("replica", async () => work(await this.#engine));
    return call(async (engine) => ({
      dialect: engine.dialect,
      id: engine.id,
      parts: {
        read: () => call(({ parts }) => parts.read()),
        narrow: (from, to) => call(({ parts }) => parts.narrow(from, to)),
        pend: (part, pending) => call(({ parts }) => parts.pend(part, pending)),
        finish: (before) => call(({ parts }) => parts.finish(before)),
        rows: (query) => call(({ parts }) => parts.rows(query)),
      },
      findings: () => [],
      check: () => call((replica) => replica.check()),
      claim: (...asked) => call((replica) => replica.claim(...asked)),
      progress: (partition) => call((replica) => replica.progress(partition)),
      progressOf: (topic) => call((replica) => replica.progressOf(topic)),
      held: (partition) => call((replica) => replica.held(partition)),
      remembered: (oids) => call((replica) => replica.remembered(oids)),
      prepare: (...asked) => call((replica) => replica.prepare(...asked)),
      change: (changes, advance) =>
        call(async (replica) => {
          await this.#committing(advance, host, replica.change(changes, advance));
          if (this.#mayRefuse) for (const table of await replica.remembered()) addRefusal(this.#database, table);
        }),
      apply: (work, advance) => call((replica) => this.#committing(advance, host, replica.apply(work, advance))),
      settle: (work, partition) =>
        call(async (replica) => {
          await this.aroundSettle(partition, () => replica.settle(work, partition));
          this.settled++;
          await this.onCommit(partition);
        }),
      [Symbol.asyncDispose]: async () => undefined,
    }));
  }

  async #committing({ partition, from, to }: Advance, host: Host | null, commit: Promise<void>): Promise<void> {
    try {
      await commit;
    } catch (error) {
      if ((error as { readonly code?: unknown }).code === "FENCED") this.fenced++;
      throw error;
    }
    this.commits++;
    this.#witness.tell(host, () => `commits on ${this.name}: ${partitionKey(partition)} ${place(from)} -> ${place(to)}`);
    if (from !== null && (to.nextOffset < from.nextOffset || comparePositions(to, from) < 0))
      this.#witness.violated(`the progress of ${partition.topic} on ${this.name} went back`);
    await this.onCommit(partition);
  }

  async progress(topic: string): Promise<Progress | null> {
    return (await this.#engine).progress({ topic, partition: 0 });
  }

  async remembered(): Promise<readonly RememberedTable[]> {
    return (await this.#engine).remembered();
  }

  async parts(): Promise<RememberedPart> {
    return (await this.#engine).parts.read();
  }

  async held(): Promise<readonly HeldKey[]> {
    return (await this.#engine).held();
  }

  /** Whether one row in so many is refused from here on; 0: none is. */
  refuse(oneIn: number): void {
    this.#database.run("UPDATE refusing SET one_in = ?", [oneIn]);
  }

  /** Rows of a table by attnum, as they are now. */
  rows({ schema, named }: RememberedTable): readonly Row[] {
    const columns = new Map(schema.columns.map(({ name, attnum }) => [name, attnum]));
    const found = this.#database.query<Record<string, Value>, []>(`SELECT * FROM "${named.table}"`).all();
    return found.map(
      (row) =>
        new Map(
          Object.entries(row).flatMap(([name, value]) => (columns.has(name) ? [[columns.get(name) as number, value]] : [])),
        ),
    );
  }

  text(remembered: RememberedTable, attnums: ReadonlySet<number>): string {
    return tableText(this.rows(remembered), attnums);
  }

  [Symbol.dispose](): void {
    void this.#opened?.[Symbol.asyncDispose]();
  }
}

const place = (progress: Progress | null): string =>
  progress === null ? "-" : `${progress.nextOffset} (${progress.commitLsn}/${progress.ordinal})`;

export const tableOf = (topic: string): string => tableOfTopic(PREFIX, topic)?.table ?? "";

/** A trigger of the user's own that raises an error at some values. */
function addRefusal(database: Database, { oid, schema, named }: RememberedTable): void {
  const column = schema.columns.find(({ attnum }) => attnum === COUNT)?.name;
  for (const event of ["INSERT", "UPDATE"])
    database.run(
      `CREATE TRIGGER IF NOT EXISTS "refuse ${oid} ${event}" BEFORE ${event} ON "${named.table}"
       WHEN (SELECT one_in > 0 AND NEW."${column}" % one_in = 0 FROM refusing) BEGIN SELECT RAISE(ABORT, 'refused'); END`,
    );
}
