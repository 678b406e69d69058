import { deadLettersTopic, schemasTopic } from "@cascade/shared/topic";
import { cdcProcess } from "./cdc-process.ts";
import { Part } from "./division.ts";
import { SimulatedGroup } from "./group.ts";
import { SimulatedKafka } from "./kafka.ts";
import { ddlText, logText } from "./log-text.ts";
import { MainDb } from "./main-db.ts";
import { ModelCheck } from "./model-check.ts";
import { FAULTS, type Fault, type FaultPlan, Network, type ServiceName } from "./network.ts";
import { Operator } from "./operator.ts";
import { type Plan, planOf, type Refusals } from "./plan.ts";
import { Machine, type Witness } from "./process.ts";
import { SimulatedReplica, tableOf } from "./replica.ts";
import { Resharding } from "./resharding.ts";
import { routerProcess } from "./router-process.ts";
import { Scheduler } from "./scheduler.ts";
import { PREFIX } from "./slot-source.ts";
import { firstSchema, type Row } from "./tables.ts";
import { Workload } from "./workload.ts";

export interface HistoryOptions {
  readonly seed: number;
  /** All, unless said otherwise. */
  readonly faults?: ReadonlySet<Fault>;
  /** At most so many transactions. */
  readonly transactions?: number;
  /** KAFKA_PARTITIONS; by chance, unless said otherwise. */
  readonly partitions?: number;
  /** Replicas that share main-db's rows; 1: none do. By chance, unless said otherwise. */
  readonly shards?: number;
  /** Keeps the last lines of what happened. */
  readonly trace?: boolean;
}

export interface HistoryFigures {
  readonly transactions: number;
  readonly schemaChanges: number;
  readonly messages: number;
  readonly commits: number;
  readonly fenced: number;
  /** Changes that were held back, each as often as it was written. */
  readonly letters: number;
  /** Transactions of replays and discards. */
  readonly settled: number;
  readonly virtualMs: number;
  readonly faults: ReadonlyMap<Fault, number>;
}

export interface HistoryOutcome {
  /** null: everything that was promised held. */
  readonly failure: string | null;
  /** The same whenever the same history is run. */
  readonly digest: string;
  readonly figures: HistoryFigures;
  readonly trace: readonly string[];
}

/** Once faults are over everything must be where it belongs within this. */
const PATIENCE_MS = 30 * 60_000;
/** And stay there: a copy that somebody has asked for may still begin, and empty a table first. */
const CALM_MS = 20_000;
/** Rows are refused so much longer than there are other faults. */
const MAX_REFUSING_MS = 60_000;
const MAX_WORKLOAD_MS = 10 * 60_000;
const TRACE_LINES = 4_000;
const SERVICES: readonly ServiceName[] = ["main-db", "kafka", "replica"];

/** One history from its seed: a workload, faults, and then calm, in which every replica must become equal and stay so. */
export function runHistory(options: HistoryOptions): HistoryOutcome {
  const history = new History(options);
  try {
    return history.run();
  } finally {
    history.close();
  }
}

class History {
  readonly #plan: Plan;
  readonly #faults: FaultPlan;
  readonly #scheduler: Scheduler;
  readonly #network: Network;
  readonly #mainDb: MainDb;
  readonly #kafka: SimulatedKafka;
  readonly #machines: Machine[] = [];
  readonly #replicas: SimulatedReplica[] = [];
  readonly #trace: string[] = [];
  readonly #witness: Witness;
  readonly #check: ModelCheck;
  readonly #operator: Operator;
  #workload!: Workload;
  #resharding: Resharding | null = null;
  #violation: string | null = null;
  #isOver = false;
  #isCured = false;
  #differs = "";

  constructor(options: HistoryOptions) {
    const { seed, faults = new Set(FAULTS), transactions, partitions, shards, trace = false } = options;
    this.#plan = planOf(seed, { transactions, partitions, shards });
    this.#scheduler = new Scheduler(seed);
    this.#faults = { rate: this.#plan.rate, kinds: faults };
    this.#network = new Network(this.#scheduler, this.#faults);
    this.#mainDb = new MainDb(this.#scheduler);
    this.#kafka = new SimulatedKafka(this.#scheduler);
    this.#witness = {
      violated: (what) => {
        this.#violation ??= what;
        this.#isOver = true;
      },
      tell: (host, text) => {
        if (!trace) return;
        this.#trace.push(`${(this.#scheduler.nowMs / 1000).toFixed(3)} ${host?.name ?? "-"} ${text()}`);
        if (this.#trace.length > TRACE_LINES) this.#trace.shift();
      },
    };
    this.#check = new ModelCheck(this.#world);
    this.#operator = new Operator(this.#world);
  }

  get #world() {
    return {
      scheduler: this.#scheduler,
      network: this.#network,
      mainDb: this.#mainDb,
      kafka: this.#kafka,
      witness: this.#witness,
    };
  }

  run(): HistoryOutcome {
    this.#scheduler.after(0, null, () => this.#begin());
    this.#scheduler.run(MAX_WORKLOAD_MS + PATIENCE_MS, () => this.#isOver);
    const failure = this.#violation ?? (this.#isOver ? null : `stuck: ${this.#differs}`);
    if (failure !== null) {
      for (const [topic, logs] of this.#kafka.topics)
        for (const partition of logs.keys()) this.#witness.tell(null, () => logText(this.#kafka, topic, partition));
      this.#witness.tell(null, () => ddlText(this.#mainDb));
    }
    const sum = (of: (replica: SimulatedReplica) => number) => this.#replicas.reduce((total, replica) => total + of(replica), 0);
    return {
      failure,
      digest: this.#scheduler.digest,
      trace: this.#trace,
      figures: {
        transactions: this.#workload.committed,
        schemaChanges: this.#workload.schemaChanges,
        messages: [...this.#kafka.topics.values()].flat().reduce((total, { messages }) => total + messages.length, 0),
        commits: sum(({ commits }) => commits),
        fenced: sum(({ fenced }) => fenced),
        letters: sum(({ name }) => this.#kafka.end(deadLettersTopic(PREFIX, name))),
        settled: sum(({ settled }) => settled),
        virtualMs: this.#scheduler.nowMs,
        faults: this.#network.counts,
      },
    };
  }

  close(): void {
    for (const replica of this.#replicas) replica[Symbol.dispose]();
  }

  #begin(): void {
    const plan = this.#plan;
    const world = this.#world;
    plan.tables.forEach(({ name, keyed, rows }) => {
      const row = (id: number): Row =>
        new Map<number, number | string>([
          [1, id + 1],
          [2, -id],
          [3, `old${id}`],
        ]);
      this.#mainDb.create(
        firstSchema(name, this.#mainDb.newOid(), keyed, plan.form.isFull),
        Array.from({ length: rows }, (_, id) => row(id)),
      );
    });
    // Without copies what comes before the slot is nobody's.
    if (!plan.initial) this.#mainDb.createSlot();
    const { initial, chunkRows, cdcBatchRows: batchRows, partitions } = plan;
    const cdc = cdcProcess({ ...world, initial, chunkRows, batchRows, partitions });
    for (let at = 0; at < plan.cdcs; at++) this.#machines.push(new Machine(`cdc${at}`, this.#scheduler, this.#witness, cdc));
    plan.replicas.forEach((routers, number) => {
      const isSplit = plan.division?.splits === true && number === 0;
      const own = { part: this.#partOf(number), isSplit, mayRefuse: plan.refusals !== null };
      const replica = new SimulatedReplica(`r${number}`, { ...world, ...own });
      // Each of several partitions has a progress of its own.
      if (!plan.copies && plan.partitions === 1 && !isSplit)
        replica.onCommit = ({ topic }) => this.#check.progress(replica, topic);
      this.#replicas.push(replica);
      const group = new SimulatedGroup(this.#scheduler, this.#network, this.#kafka);
      const router = routerProcess({ ...world, group, replica, batchRows: plan.routerBatchRows, refusals: plan.refusals });
      for (let at = 0; at < routers; at++)
        this.#machines.push(
          new Machine(
            `router${number}-${at}`,
            this.#scheduler,
            this.#witness,
            router,
            (error) => isSplit && this.#resharding?.refuses(error) === true,
          ),
        );
    });
    this.#split();
    const isAnnounced = () => this.#kafka.end(schemasTopic(PREFIX)) >= plan.tables.length;
    const { transactions, ddl, pauseMs } = plan;
    this.#workload = new Workload(this.#mainDb, this.#scheduler, {
      transactions,
      ddl,
      pauseMs,
      movesPartially: plan.division?.by !== "key",
      isAnnounced,
    });
    this.#storm();
    if (plan.refusals !== null) this.#refuse(plan.refusals);
    this.#checkpoint();
    this.#awaitEnd();
  }

  /** What a replica has to begin with; one that is made for a half has that. */
  #partOf(number: number): Part | null {
    const { division } = this.#plan;
    if (division === null) return null;
    const { by, shards } = division;
    return number < shards ? new Part(by, number, shards) : new Part(by, number, 2 * shards);
  }

  #split(): void {
    const { division } = this.#plan;
    const [replica, beside] = [this.#replicas[0], this.#replicas.at(-1)];
    if (division?.splits !== true || replica === undefined || beside === undefined) return;
    this.#resharding = new Resharding(this.#world, {
      ...{ replica, to: new Part(division.by, 0, 2 * division.shards), beside },
      mayCopy: this.#plan.copies,
      routers: this.#machines.filter(({ name }) => name.startsWith("router0-")),
    });
  }

  #checkpoint(): void {
    this.#mainDb.checkpoint();
    this.#scheduler.after(this.#scheduler.random.between(100, 5_000), null, () => this.#checkpoint());
  }

  /** Faults that come by themselves. */
  #storm(): void {
    const { random } = this.#scheduler;
    const network = this.#network;
    const machine = random.pick(this.#machines);
    const service = random.pick(SERVICES);
    const lastsMs = random.skewed(50, 60_000);
    if (network.strikes("crash", 0.2)) machine.kill(random.skewed(10, 8_000));
    if (network.strikes("freeze", 0.12)) machine.freeze(random.skewed(100, 90_000));
    if (network.strikes("cut", 0.1)) network.cut(machine.host, service, lastsMs);
    if (network.strikes("restart", 0.06)) this.#restart(service, lastsMs / 4);
    if (this.#plan.copies && network.strikes("retention", 0.04)) this.#cutTopic();
    if (this.#plan.copies && random.chance(0.04)) this.#operator.askForCopy(this.#replicas);
    if (this.#plan.losesSlot && this.#check.hasSlotRecord && network.strikes("slot-lost", 0.08)) this.#loseSlot();
    if (this.#faults.rate > 0) this.#scheduler.after(random.skewed(50, this.#plan.stormPauseMs * 2), null, () => this.#storm());
  }

  #restart(service: ServiceName, forMs: number): void {
    this.#network.down(service, forMs);
    if (service === "main-db") this.#mainDb.restart();
  }

  #loseSlot(): void {
    const how = this.#scheduler.random.pick(["dropped", "invalid", "advanced", "made anew"] as const);
    this.#witness.tell(null, () => `the slot is ${how}`);
    this.#mainDb.loseSlot(how);
  }

  /**
   * Replicas refuse rows now and then, until a while after everything else has calmed down. What they hold back is replayed, or given up and
   * copied, whether they take it by then or not; in the end all is taken, and whoever has the command replays until nothing is held, or gives
   * up what cannot be replayed, such as a row that moved from a key that was given up.
   */
  #refuse(refusals: Refusals): void {
    const { random } = this.#scheduler;
    const replica = random.pick(this.#replicas);
    const begins = random.chance(0.3);
    if (this.#isCured) replica.refuse(0);
    else if (begins && this.#faults.kinds.has("row-refused")) {
      this.#network.count("row-refused");
      replica.refuse(refusals.oneIn);
    } else if (random.chance(0.15)) replica.refuse(0);
    if (random.chance(this.#isCured ? 0.5 : 0.1)) this.#operator.replay(replica);
    if (this.#plan.copies && random.chance(0.03)) this.#operator.discard(replica);
    this.#scheduler.after(random.skewed(100, 10_000), null, () => this.#refuse(refusals));
  }

  #cutTopic(): void {
    const { random } = this.#scheduler;
    const topics = [...this.#kafka.topics.keys()].filter((topic) => tableOf(topic) !== "");
    if (topics.length === 0) return;
    const topic = random.pick(topics);
    const partition = random.between(0, this.#kafka.partitions(topic) - 1);
    this.#kafka.cut(topic, random.between(0, this.#kafka.end(topic, partition)), partition);
  }

  /** The workload to its end, a while of faults more, and then calm. */
  #awaitEnd(): void {
    const { random } = this.#scheduler;
    if (!this.#workload.isOver) return void this.#scheduler.after(250, null, () => this.#awaitEnd());
    this.#scheduler.after(random.skewed(0, 20_000), null, () => {
      this.#faults.rate = 0;
      this.#witness.tell(null, () => "calm");
      this.#scheduler.after(random.skewed(0, MAX_REFUSING_MS), null, () => {
        this.#isCured = true;
      });
      this.#awaitEqual(null);
    });
  }

  /** @param sinceMs since when all is as it should be */
  #awaitEqual(sinceMs: number | null): void {
    void this.#check.difference(this.#replicas).then((found) => {
      const difference = this.#resharding?.isDone === false ? "the part is not given up" : found;
      this.#differs = difference ?? "";
      const { nowMs } = this.#scheduler;
      if (difference === null && sinceMs !== null && nowMs - sinceMs >= CALM_MS) {
        this.#isOver = true;
        return;
      }
      this.#scheduler.after(1_000, null, () => this.#awaitEqual(difference === null ? (sinceMs ?? nowMs) : null));
    });
  }
}
