import type { Snapshot } from "@cascade/cdc/src/postgres/snapshot.ts";
import { SNAPSHOT_PREFIX } from "@cascade/cdc/src/postgres/wal2json.ts";
import { encodeMark, type SnapshotMark } from "@cascade/cdc/src/snapshot/mark.ts";
import type {
  ChunkPlan,
  ChunkRows,
  RowRange,
  SnapshotRow,
  TableFound,
  TableReader,
} from "@cascade/cdc/src/snapshot/table-reader.ts";
import type { MainDb } from "./main-db.ts";
import type { SimulatedSession } from "./main-db-session.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { ID, isHidden, keyJson, type Row, rowJson } from "./tables.ts";

interface SimulatedReaderOptions {
  readonly scheduler: Scheduler;
  readonly session: SimulatedSession;
  readonly mainDb: MainDb;
  readonly chunkRows: number;
}

interface Looked extends TableFound {
  readonly will: boolean;
}

/** Tables of the simulated main-db, read as a session of cdc's does: a snapshot first, and the rows that it sees a while later. */
export class SimulatedReader implements TableReader {
  readonly #options: SimulatedReaderOptions;
  readonly #host: Host;

  constructor(options: SimulatedReaderOptions) {
    this.#options = options;
    this.#host = options.scheduler.current as Host;
  }

  snapshot(): Promise<Snapshot> {
    return this.#options.session.call(() => this.#options.mainDb.snapshot());
  }

  async waitsForStandby(): Promise<boolean> {
    return false;
  }

  async chunk(
    oid: number,
    plan: ChunkPlan,
    _range: RowRange,
    found: (table: TableFound) => boolean,
  ): Promise<ChunkRows | null | "gone"> {
    const looked = await this.#look(oid, found);
    if (looked === "gone") return "gone";
    if (!looked.will) return null;
    const { chunkRows } = this.#options;
    const rows = await this.#rows(oid, looked);
    if (plan.kind === "rows") {
      const wanted = rows.filter(([key]) => key !== null && plan.keys.includes(key));
      return { rows: wanted, last: true };
    }
    const after = plan.after === null ? Number.NEGATIVE_INFINITY : idOf(plan.after);
    const next = rows.filter(([key]) => key !== null && idOf(key) > after).slice(0, chunkRows);
    return { rows: next, last: next.length < chunkRows };
  }

  async scan(
    oid: number,
    found: (table: TableFound) => boolean,
    take: (rows: readonly SnapshotRow[]) => Promise<void>,
  ): Promise<"done" | null | "gone"> {
    const looked = await this.#look(oid, found);
    if (looked === "gone") return "gone";
    if (!looked.will) return null;
    const rows = await this.#rows(oid, looked);
    const size = this.#options.chunkRows;
    for (let start = 0; start < rows.length; start += size) await take(rows.slice(start, start + size));
    return "done";
  }

  /** The table is locked against being altered from here to when its rows have been read. */
  #look(oid: number, found: (table: TableFound) => boolean): Promise<Looked | "gone"> {
    const { session, mainDb } = this.#options;
    let isOver = false;
    const look = session.call(() => {
      const table = mainDb.tables.get(oid);
      if (table === undefined || isHidden(table.schema)) return "gone" as const;
      if (isOver) throw new Error("the session is over");
      table.readBy.add(this.#host);
      return { snapshot: mainDb.snapshot(), schema: table.schema };
    });
    return look.then(
      (table) => {
        if (table === "gone") return table;
        const will = found(table);
        if (!will) this.#unlock(oid);
        return { ...table, will };
      },
      (error: unknown) => {
        isOver = true;
        this.#unlock(oid);
        throw error;
      },
    );
  }

  async #rows(oid: number, { snapshot, schema }: TableFound): Promise<readonly SnapshotRow[]> {
    const { session, mainDb } = this.#options;
    try {
      return await session.call(() =>
        [...mainDb.rowsSeen(oid, snapshot)].sort(byId).map((row): SnapshotRow => [keyJson(schema, row), rowJson(schema, row)]),
      );
    } finally {
      this.#unlock(oid);
    }
  }

  #unlock(oid: number): void {
    this.#options.mainDb.tables.get(oid)?.readBy.delete(this.#host);
  }

  mark(mark: SnapshotMark): Promise<void> {
    const { session, mainDb } = this.#options;
    return session.call(() => {
      mainDb.commit(mainDb.begin(), [{ kind: "mark", prefix: SNAPSHOT_PREFIX, content: encodeMark(mark) }], 0);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { readBy } of this.#options.mainDb.tables.values()) readBy.delete(this.#host);
  }
}

const byId = (a: Row, b: Row): number => Number(a.get(ID)) - Number(b.get(ID));
const idOf = (key: string): number => Number(/:(-?\d+)/.exec(key)?.[1]);
