import type { SqlValue } from "../dialect.ts";
import { readPending } from "../pending-claim.ts";
import type { ShardRowOptions } from "./shard-row.ts";

/** What a replica remembers of its part, beyond what its routers ask: for a command that gives a part of it up. */

export interface RememberedPart {
  /** As Ownership.text says it; null before the first router, and while one claims another. */
  readonly part: string | null;
  /** What it was before, while rows of that may be left; null: there are none. */
  readonly before: string | null;
}

export interface PartStore {
  read(): Promise<RememberedPart>;
  /**
   * One transaction: the replica's part is `to` instead of `from`, rows of `from` may be left, and whoever knew of any table knows nothing of it
   * any more (revisions), so that no router writes rows by the rules from before. False, and nothing is done, where it was not `from`, or where
   * rows may be left from before that.
   */
  narrow(from: string, to: string): Promise<boolean>;
  /**
   * One transaction: `pending` is remembered instead of `part` (pending-claim.ts), and whoever knew of any table knows nothing of it any more, so that
   * nothing that was decided by the rules from before is done after it. False, and nothing is done, where it was not `part`.
   */
  pend(part: string, pending: string): Promise<boolean>;
  /** No rows are left of what was `before`. */
  finish(before: string): Promise<void>;
  rows(query: PartQuery): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

export interface PartQuery {
  readonly text: string;
  readonly values: readonly SqlValue[];
}

export interface PartStep extends PartQuery {
  /** The transaction is for nothing where this changes no row. */
  readonly must?: true;
}

export interface PartStoreOptions extends Pick<ShardRowOptions, "table" | "parameter"> {
  readonly tables: string;
  rows(query: PartQuery): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** In one transaction; `changed` gives the number of rows. Rolled back when `work` throws. */
  transaction(steps: readonly PartStep[]): Promise<void>;
}

/** Thrown within an engine's transaction by `checkStep`. */
class NothingChanged extends Error {
  override readonly name = "NothingChanged";
}

export function checkStep({ must }: PartStep, changed: number | null | undefined): void {
  if (must === true && !(Number(changed) > 0)) throw new NothingChanged("a step of a transaction found no row");
}

const BEFORE = 2;

export function partStore({ table, tables, parameter: p, rows, transaction }: PartStoreOptions): PartStore {
  const replace = (from: string, to: string): PartStep => ({
    text: `UPDATE ${table} SET shard = ${p(1)} WHERE one = 1 AND shard = ${p(2)}`,
    values: [to, from],
    must: true,
  });
  const forget: PartStep = { text: `UPDATE ${tables} SET revision = revision + 1 WHERE oid IS NOT NULL`, values: [] };
  const changed = async (steps: readonly PartStep[]): Promise<boolean> => {
    try {
      await transaction(steps);
      return true;
    } catch (error) {
      if (isNothingChanged(error)) return false;
      throw error;
    }
  };
  return {
    read: async () => {
      const found = await rows({ text: `SELECT one, shard FROM ${table}`, values: [] });
      const of = (one: number): string | null => {
        const row = found.find((each) => Number(each["one"]) === one);
        return row === undefined ? null : String(row["shard"]);
      };
      const part = of(1);
      return { part: part === null || readPending(part) !== null ? null : part, before: of(BEFORE) };
    },
    // Of two that change it one waits at the first step, before anything is read, and finds it changed.
    narrow: (from, to) =>
      changed([
        replace(from, to),
        {
          text: `INSERT INTO ${table} (one, shard) SELECT ${BEFORE}, ${p(1)} FROM ${table} WHERE one = 1 AND NOT EXISTS (SELECT 1 FROM ${table} WHERE one = ${BEFORE})`,
          values: [from],
          must: true,
        },
        forget,
      ]),
    pend: (part, pending) => changed([replace(part, pending), forget]),
    finish: (before) =>
      transaction([{ text: `DELETE FROM ${table} WHERE one = ${BEFORE} AND shard = ${p(1)}`, values: [before] }]),
    rows,
  };
}

const isNothingChanged = (error: unknown): boolean =>
  error instanceof NothingChanged || (error instanceof Error && error.cause instanceof NothingChanged);
