import { CascadeError } from "@cascade/shared/errors";
import { formatTableName } from "@cascade/shared/topic";
import type { DeadLetter, DeadLetterLog } from "./dead-letter.ts";
import type { EventBatch, Partition } from "./event-consumer.ts";
import type { HeldBook } from "./held-book.ts";
import type { HeldKey } from "./held-keys.ts";
import { HoldPlan, type HoldPlanOptions } from "./hold-plan.ts";
import { isOfTheRow } from "./poison.ts";
import type { RememberedTable, Replica } from "./replica.ts";
import type { TableBook } from "./table-book.ts";

/** ROUTER_ON_ERROR. */
export const ERROR_POLICIES = ["stop", "dead-letter"] as const;
export type ErrorPolicy = (typeof ERROR_POLICIES)[number];

/** What becomes of an event that the replica refuses. */
export interface PoisonPolicy {
  /** The error with which the event may be passed over, once the table has been looked at anew. Throws it where it stops the table. */
  blame(batch: EventBatch, error: unknown): CascadeError;
  /** Resolves when nothing can lose the letters any more. */
  publish(letters: readonly DeadLetter[]): Promise<void>;
}

/** The table stops at it. */
export const STOP: PoisonPolicy = {
  blame: (_batch, error) => {
    throw error;
  },
  publish: () => Promise.reject(new Error("nothing is passed over where an error stops the table")),
};

export interface DeadLettersOptions {
  readonly policy: ErrorPolicy;
  readonly maxKeys: number;
  readonly held: HeldBook;
  readonly replica: Pick<Replica, "settle">;
  readonly tables: Pick<TableBook, "doubt">;
  readonly open: () => Promise<DeadLetterLog>;
}

/** Keys that are held back stay so whatever ROUTER_ON_ERROR says now; whether more are, it decides. */
export class DeadLetters implements PoisonPolicy, AsyncDisposable {
  readonly #options: DeadLettersOptions;
  /** Opened when there is something to write. */
  #log: Promise<DeadLetterLog> | null = null;

  constructor(options: DeadLettersOptions) {
    this.#options = options;
  }

  blame({ table }: EventBatch, error: unknown): CascadeError {
    const { policy, tables } = this.#options;
    if (policy === "stop" || !isOfTheRow(error)) throw error;
    // Is it the row, or is the table not what it was? Read again, it says so itself.
    tables.doubt(table, error);
    return error;
  }

  /** null when every event goes the ordinary way: one look per batch. */
  plan(of: Omit<HoldPlanOptions, "held" | "maxKeys">): HoldPlan | null {
    const { held, maxKeys } = this.#options;
    return held.all.size === 0 && of.poison === null ? null : new HoldPlan({ ...of, held: held.all, maxKeys });
  }

  /** See HeldBook. */
  sync(table: RememberedTable): Promise<boolean> {
    return this.#options.held.sync(table);
  }

  /** Reads anew what is held back. Resolves to whether it is not what it was known to be. */
  async look(): Promise<boolean> {
    const { held } = this.#options;
    const before = held.all;
    await held.reread();
    const isSame = ({ id, events }: HeldKey): boolean => before.get(id)?.events === events;
    return held.all.size !== before.size || ![...held.all.values()].every(isSame);
  }

  async publish(letters: readonly DeadLetter[]): Promise<void> {
    this.#log ??= this.#options.open();
    try {
      await (await this.#log).publish(letters);
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw asStop(error);
    }
  }

  /** Of a table that main-db has dropped nothing is held back any more. */
  async releaseGone(partition: Partition, isGone: (oid: number) => boolean): Promise<void> {
    const { held, replica } = this.#options;
    const gone = held.current(partition).filter(({ oid }) => isGone(oid));
    if (gone.length === 0) return;
    const holds = gone.map((from) => ({ kind: "release", from }) as const);
    await replica.settle({ statements: [], inOrder: () => [], holds }, partition);
    held.moved(holds);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const log = await this.#log?.catch(() => null); // whoever wanted to write has heard of it
    this.#log = null;
    await log?.[Symbol.asyncDispose]();
  }
}

/** A missing right, or a letter too large, keeps one table from being led past its row; the others need no letters. */
function asStop(error: unknown): unknown {
  if (!(error instanceof CascadeError) || (error.verdict !== "refuse" && error.verdict !== "fatal")) return error;
  const { code, message, advice } = error;
  return new CascadeError({ code, verdict: "stop-table", message, advice, cause: error });
}

/** For the log: what was refused, in words, without the row's values. */
export const describeLetter = ({ table, cause }: DeadLetter): string =>
  `${formatTableName(table)}: a change is refused, and its key is held back until it is replayed or discarded: ${cause.code}: ${cause.message}`;
