import type pg from "pg";
import { tellingBlockers } from "./blocked.ts";
import type { Catalog } from "./catalog.ts";
import type { Relation } from "./relation.ts";
import { dropSlot, type EnsuredSlot, ensureSlot, type SlotRequest } from "./slot.ts";

/** Each takes as long as the transactions that are under way. */
const MAX_TRIES = 50;

export interface SlotAtRest extends EnsuredSlot {
  /** Every captured relation: of a slot just created, as they look where it begins. */
  readonly relations: readonly Relation[];
}

export interface SlotAtRestOptions {
  readonly client: pg.Client;
  /** Free meanwhile: says who keeps the slot from being created. */
  readonly watcher: pg.Client;
  readonly catalog: Catalog;
  readonly request: SlotRequest;
  readonly waiting: (reason: string | null) => void;
  readonly warn: (message: string) => void;
}

/**
 * Makes sure of the slot. Where it must be created, tables may be altered meanwhile: the catalog would be ahead of the stream's first
 * rows then, and nothing would tell what those were written under. So it is created anew until no table was.
 */
export async function slotAtRest(options: SlotAtRestOptions): Promise<SlotAtRest> {
  const { client, catalog, request, warn } = options;
  const doing = `creating replication slot "${request.slot}"`;
  for (let tries = 1; ; tries++) {
    const before = await catalog.fingerprint();
    const ensured = await tellingBlockers({ ...options, doing }, () => ensureSlot(client, request));
    const relations = await catalog.captured();
    if (ensured.slot === "found" || (await catalog.fingerprint()) === before) return { ...ensured, relations };
    if (tries === MAX_TRIES) {
      warn(
        "main-db's tables are altered all the time: a row that was written before cdc's first look at its table, and does not fit it, will stop cdc",
      );
      return { ...ensured, relations };
    }
    // Nobody has read from it.
    await dropSlot(client, request.slot);
  }
}
