import { CascadeError, describeError } from "@cascade/shared/errors";
import type { Lsn } from "@cascade/shared/lsn";
import { decodeSlotRecord, encodeSlotRecord, SLOT_KEY, type SlotRecord } from "./slot-record.ts";
import type { SignalLog } from "./snapshot/signal-log.ts";

/** So much WAL may be published before the limit is raised again. */
export const LIMIT_STEP = 16n * 1024n * 1024n;

/** The slot's record in `<prefix>.signals`, in one life. */
export class SlotBook {
  readonly #log: Pick<SignalLog, "write">;
  readonly #failed = Promise.withResolvers<never>();
  /** As it was written last, and as far as it is durable. */
  #newest: SlotRecord | null;
  #durable: SlotRecord | null;
  #raisingLimit: Promise<void> | null = null;

  constructor(log: Pick<SignalLog, "messages" | "write">) {
    this.#log = log;
    const value = log.messages.get(SLOT_KEY);
    this.#newest = this.#durable = value === undefined ? null : readRecord(value);
    this.#failed.promise.catch(() => undefined); // `failed` says it
  }

  /** null: of a pipeline that has none yet. */
  get record(): SlotRecord | null {
    return this.#newest;
  }

  get bound(): Lsn {
    return this.#durable?.bound ?? 0n;
  }

  /** Rejects when something that nobody waits for cannot be written. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Resolves when it is durable. */
  async write(record: SlotRecord): Promise<void> {
    this.#newest = record;
    await this.#log.write([{ key: SLOT_KEY, value: encodeSlotRecord(record) }]);
    this.#durable = record;
  }

  /** Resolves when `bound` may be confirmed; never when it cannot be written: `failed` is told. */
  async raiseBound(bound: Lsn): Promise<void> {
    try {
      await this.#change({ bound });
    } catch (error) {
      this.#failed.reject(error);
      await new Promise<never>(() => undefined); // the life is over
    }
  }

  /** null when `lsn` may be published now; else resolves when it may. Well before the limit is reached it is raised on the side. */
  mayPublish(lsn: Lsn): Promise<void> | null {
    const limit = this.#durable?.limit ?? 0n;
    if (lsn + LIMIT_STEP / 2n <= limit) return null;
    this.#raisingLimit ??= this.#change({ limit: lsn + LIMIT_STEP }).finally(() => {
      this.#raisingLimit = null;
    });
    if (lsn > limit) return this.#raised(lsn);
    this.#raisingLimit.catch((error: unknown) => this.#failed.reject(error));
    return null;
  }

  async #raised(lsn: Lsn): Promise<void> {
    while (lsn > (this.#durable?.limit ?? 0n)) {
      const raising = this.#raisingLimit ?? this.#change({ limit: lsn + LIMIT_STEP });
      await raising;
    }
  }

  async #change(change: Partial<Pick<SlotRecord, "bound" | "limit">>): Promise<void> {
    if (this.#newest === null) throw new TypeError("the slot's record is written before it is raised");
    await this.write({ ...this.#newest, ...change });
  }
}

function readRecord(value: string): SlotRecord {
  try {
    return decodeSlotRecord(value);
  } catch (error) {
    throw new CascadeError({
      code: "SLOT_RECORD_UNREADABLE",
      verdict: "refuse",
      message: `what <prefix>.signals says of the slot (key "${SLOT_KEY}") cannot be read: ${describeError(error)}`,
      advice:
        "run the version of cdc that wrote it; or, when nothing has touched the slot since, delete it: publish a message without value under that key",
    });
  }
}
