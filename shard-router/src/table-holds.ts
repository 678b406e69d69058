import { CascadeError, FencedError } from "@cascade/shared/errors";
import { errorFields, errorText } from "@cascade/shared/logging";
import { backoffMs } from "@cascade/shared/retry";
import type { ServiceContext } from "@cascade/shared/service";
import { formatTableName, type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { ApplyStatus } from "./apply-status.ts";
import type { RouterConfig } from "./config.ts";
import { type Partition, partitionKey } from "./event-consumer.ts";
import { offsetOf } from "./poison.ts";
import { WaitingError } from "./waiting.ts";

/** Another router has the partition, or has just given it up: its progress is read again soon. */
const FENCED_PAUSE_MS = 250;
const WAITING_PAUSE_MS = 100;
/** What is waited for may be the next batch of another partition. */
const FIRST_WAITING_PAUSE_MS = 2;
/** Whoever waits after that waits for something else. */
const WAITING_ENDS_MS = 1_000;

interface Waiting {
  readonly what: string;
  readonly sinceMs: number;
  readonly pauseMs: number;
}

/** Decides what a failure stops: one table's partition, which is tried again and again, or the whole life. */
export class TableHolds {
  readonly #config: Pick<RouterConfig, "replicaName" | "KAFKA_TOPIC_PREFIX">;
  readonly #context: ServiceContext;
  readonly #status: ApplyStatus;
  /** What was last said that a topic waits for. */
  readonly #waitsFor = new Map<string, string>();
  readonly #waiting = new Map<string, Waiting>();

  constructor(config: RouterConfig, context: ServiceContext, status: ApplyStatus) {
    this.#config = config;
    this.#context = context;
    this.#status = status;
  }

  /** Milliseconds until the partition is tried again. Throws `error` when it concerns more than this table. */
  afterFailure(partition: Partition, error: unknown): number {
    if (error instanceof FencedError) {
      this.count(error);
      this.#context.logger.info({ ...partition, code: error.code }, error.message);
      return FENCED_PAUSE_MS;
    }
    if (error instanceof WaitingError) {
      this.#context.logger[this.#waitsFor.get(partition.topic) === error.message ? "debug" : "info"](partition, error.message);
      this.#waitsFor.set(partition.topic, error.message);
      return this.#waitingPauseMs(partition, `${error.message} ${error.at}`);
    }
    if (!(error instanceof CascadeError) || error.verdict !== "stop-table") throw error;
    return backoffMs(this.held(partition, error));
  }

  /** Twice as long each time, up to a tenth of a second. */
  #waitingPauseMs(partition: Partition, what: string): number {
    const key = partitionKey(partition);
    const before = this.#waiting.get(key);
    const nowMs = performance.now();
    const isSame = before !== undefined && before.what === what && nowMs - before.sinceMs < WAITING_ENDS_MS;
    const pauseMs = isSame ? Math.min(2 * before.pauseMs, WAITING_PAUSE_MS) : FIRST_WAITING_PAUSE_MS;
    this.#waiting.set(key, { what, sinceMs: nowMs, pauseMs });
    return pauseMs;
  }

  /** Says once that the partition stands still, and why. Resolves to how often in a row it has failed now. */
  held(partition: Partition, error: CascadeError): number {
    const { failures, news } = this.#status.held(partition, error);
    const table = formatTableName(tableOfTopic(this.#config.KAFKA_TOPIC_PREFIX, partition.topic) as TableName);
    this.count(error);
    this.#context.logger[news ? "error" : "debug"](
      { ...errorFields(error), ...partition, ...offsetField(error) },
      `${table} is held: ${errorText(error)}`,
    );
    return failures;
  }

  /** One more try that failed and is repeated. */
  count(error: unknown): void {
    const code = error instanceof CascadeError ? error.code : "BUG";
    this.#context.telemetry.add("cascade_router_retries_total", 1, { replica: this.#config.replicaName, code });
  }
}

function offsetField(error: CascadeError): { readonly offset?: string } {
  const offset = offsetOf(error);
  return offset === null ? {} : { offset: String(offset) };
}
