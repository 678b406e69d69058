import type { ApplyStatus } from "./apply-status.ts";
import type { AwaitedCopies } from "./copy-requests.ts";
import type { EventBatch, EventConsumer } from "./event-consumer.ts";
import type { ProgressBook } from "./progress-book.ts";
import type { SettledSince } from "./settled-since.ts";
import type { TableBook } from "./table-book.ts";

interface AtEndPorts {
  readonly schemas: Pick<SettledSince, "settle">;
  readonly tables: TableBook;
  /** A change may have made the table wait for one. */
  readonly copies: Pick<AwaitedCopies, "askAgain">;
  readonly consumer: Pick<EventConsumer, "ends" | "lookAtEnd">;
  readonly progress: ProgressBook;
  /** Whether an error has stopped the partition, and that none does any more. */
  readonly status: Pick<ApplyStatus, "isHeld" | "mended">;
}

/** Messages are on their way: the end is looked for again. */
const AGAIN_MS = 200;

/**
 * Brings the table of a partition that has been read to its end to what main-db's is now, without a row that asks for it: makes an empty
 * one, renames, drops. Only there, for rows before the end may be of what the table was.
 */
export async function atEnd({ partition, table, nextOffset, lookedForMs }: EventBatch, ports: AtEndPorts): Promise<void> {
  const { schemas, tables, copies, consumer, progress, status } = ports;
  // What is said later has the end looked for again. What is held goes on only where nothing can be due.
  await schemas.settle(status.isHeld(partition) ? null : (lookedForMs ?? null));
  const change = await tables.due(table);
  // Also where nothing is due: what waits for a copy may not have been asked for.
  await copies.askAgain();
  if (change === null && !status.isHeld(partition)) return;
  // Fetched after the schemas: every row from before a change is before this end.
  const end = (await consumer.ends(partition.topic))?.get(partition.partition);
  if (end === undefined) return;
  if (nextOffset < end) return consumer.lookAtEnd(partition.topic, AGAIN_MS);
  await change?.({ partition, from: progress.current(partition), nextOffset });
  if (change === null) return status.mended(partition);
  await copies.askAgain();
  consumer.lookAtEnd(partition.topic);
}
