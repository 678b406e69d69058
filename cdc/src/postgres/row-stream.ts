import pg from "pg";
import type { SnapshotRow } from "../snapshot/table-reader.ts";
import type { ChunkQuery } from "./chunk-sql.ts";

interface Socket {
  readonly connection: { readonly stream: { pause(): void; resume(): void } };
}

/** Runs a query for its rows as they come: `onRow` is called for each, and nothing is kept. Rejects with the server's error. */
function forEachRow(client: pg.Client, { text, values }: ChunkQuery, onRow: (row: SnapshotRow) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const query = new pg.Query({ text, values: [...values], rowMode: "array", queryMode: "extended" } as pg.QueryConfig);
    query.on("row", (row: unknown) => onRow(row as SnapshotRow));
    query.on("end", () => resolve());
    query.on("error", reject);
    client.query(query);
  });
}

export interface RowsRead {
  readonly rows: readonly SnapshotRow[];
  /** There are more: the text read was enough. The transaction is then to be rolled back. */
  readonly cut: boolean;
}

/**
 * The rows of a query, up to the first that makes their text longer than `maxChars`: rows may be of any size, and the driver has no
 * bound. `cancel` ends the query on the server, and resolves when it has been told.
 */
export async function readUpTo(
  client: pg.Client,
  query: ChunkQuery,
  maxChars: number,
  cancel: () => Promise<void>,
): Promise<RowsRead> {
  const rows: SnapshotRow[] = [];
  let chars = 0;
  let cancelled: Promise<void> | null = null;
  try {
    await forEachRow(client, query, (row) => {
      if (cancelled !== null) return;
      if (chars > maxChars) {
        cancelled = cancel();
        cancelled.catch(() => undefined); // awaited below
        return;
      }
      rows.push(row);
      chars += charsOf(row);
    });
  } catch (error) {
    if (cancelled === null) throw error;
  }
  // Told before the next query: it would be the one that is cancelled.
  if (cancelled !== null) await cancelled;
  return { rows, cut: cancelled !== null };
}

/** All rows of a query, handed over some `chunkChars` of text at a time; the socket is paused while `take` works. */
export async function readAll(
  client: pg.Client,
  query: ChunkQuery,
  chunkChars: number,
  take: (rows: readonly SnapshotRow[]) => Promise<void>,
): Promise<void> {
  const { stream } = (client as unknown as Socket).connection;
  let rows: SnapshotRow[] = [];
  let chars = 0;
  let taking: Promise<void> = Promise.resolve();
  let waiting = 0;
  const handOver = (): void => {
    const full = rows;
    rows = [];
    chars = 0;
    waiting++;
    stream.pause();
    taking = taking.then(() => take(full)).then(() => void (--waiting === 0 && stream.resume()));
    taking.catch(() => stream.resume()); // so that the query ends
  };
  await forEachRow(client, query, (row) => {
    rows.push(row);
    chars += charsOf(row);
    if (chars > chunkChars) handOver();
  });
  if (rows.length > 0) handOver();
  await taking;
}

export const charsOf = ([key, row]: SnapshotRow): number => (key?.length ?? 0) + row.length;
