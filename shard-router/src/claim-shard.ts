import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { describePart, Ownership } from "./ownership.ts";
import { pendingText, readPending } from "./pending-claim.ts";
import type { RememberedTable, Replica } from "./replica.ts";
import type { PartStore } from "./replicas/part-store.ts";

type ClaimedReplica = Pick<Replica, "claim" | "remembered"> & { readonly parts: Pick<PartStore, "pend"> };

/** In an error's text. */
const SHOWN_TABLES = 10;

/**
 * What the replica remembers of its part of main-db, for a router that goes by these rules. Other rules than those it was filled by are as good
 * where they say the same of every table that it has: so a table that is new can be given a rule. Where they do not, rows would stay that are
 * another's, and its own would be missing.
 */
export class ShardClaim {
  readonly #replica: ClaimedReplica;
  readonly #ownership: Ownership;
  /** By schema id, and the revision of the replica's table. */
  readonly #agreed = new Set<string>();

  constructor(replica: ClaimedReplica, ownership: Ownership) {
    this.#replica = replica;
    this.#ownership = ownership;
  }

  /** The replica goes by these rules from here on. Rejects with CascadeError SHARD_CHANGED (refuse). */
  async claim(): Promise<void> {
    const { text: wanted } = this.#ownership;
    for (;;) {
      const held = await this.held();
      if (held === wanted) return;
      await this.#compareAll(held);
      // A router by the rules from before may make a table just now: what is looked at again, once this is written, decides.
      await this.#replica.parts.pend(held, pendingText({ from: held, to: wanted }));
    }
  }

  /** The replica's part, once no claim to it is on its way. */
  async held(): Promise<string> {
    for (let held = await this.#replica.claim(this.#ownership.text); ; ) {
      const claim = readPending(held);
      if (claim === null) return held;
      const otherwise = await this.#filledOtherwise(this.#read(claim.from), this.#read(claim.to));
      held = await this.#replica.claim(otherwise.length > 0 ? claim.from : claim.to, held);
    }
  }

  /** For who goes by these rules once, and leaves what is remembered. Rejects with CascadeError SHARD_CHANGED (refuse). */
  async check(): Promise<void> {
    await this.#compareAll(await this.held());
  }

  /**
   * A router that began after this one may have brought other rules, which say the same of the tables that there were then. Rejects with
   * CascadeError SHARD_CHANGED (refuse) where they say something else of this schema. To be asked before a table is brought to it, and before
   * its first row: once it is there, no other rules are taken that say something else of it, but by a command that gives rows up, and makes
   * another revision of every table (PartStore.narrow). Whoever writes for the revision that was agreed about is fenced then.
   */
  async agree(schema: TableSchema, revision: number): Promise<void> {
    const agreement = `${schema.id} ${revision}`;
    if (this.#agreed.has(agreement)) return;
    await this.agreeToBring(schema);
    this.#agreed.add(agreement);
  }

  /** As `agree`; the other may look at the tables before it is there, so it is asked again. */
  async agreeToBring(schema: TableSchema): Promise<void> {
    const held = await this.held();
    if (held === this.#ownership.text) return;
    const own = this.#ownership.signatureOf(schema);
    // By its own rules it takes no row of what they cannot divide. What the replica's cannot is not to be filled by others: mended, they could not tell.
    if (own !== null && own !== this.#read(held).signatureOf(schema)) throw this.#changed(held, [schema]);
  }

  async #compareAll(held: string): Promise<void> {
    if (held === this.#ownership.text) return;
    const from = this.#read(held);
    const otherwise = await this.#filledOtherwise(from, this.#ownership);
    if (otherwise.length > 0)
      throw this.#changed(
        held,
        otherwise.map(({ schema }) => schema),
      );
  }

  /** The tables with rows of which the two say something else. */
  async #filledOtherwise(from: Ownership, to: Ownership): Promise<readonly RememberedTable[]> {
    const tables = await this.#replica.remembered();
    return tables.filter((table) => isFilled(table) && isOtherwise(from, to, table.schema));
  }

  #read(held: string): Ownership {
    try {
      return Ownership.parse(held);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw this.#changed(held, []); // of another version, which had other rules
    }
  }

  #changed(held: string, tables: readonly TableSchema[]): CascadeError {
    const names = tables.map(formatTableName).toSorted();
    const more = names.length > SHOWN_TABLES ? ` and of ${names.length - SHOWN_TABLES} more tables` : "";
    const which = names.length === 0 ? "" : `: other rows of ${names.slice(0, SHOWN_TABLES).join(", ")}${more} would be its own`;
    return new CascadeError({
      code: "SHARD_CHANGED",
      verdict: "refuse",
      message: `the replica holds ${describePart(held)}, and ROUTER_SHARD and ROUTER_SHARD_KEYS say ${describePart(this.#ownership.text)}${which}`,
      advice:
        "set them as they were for these tables, or give the other part a replica of its own: another database, another REPLICA_NAME; to make its part smaller while main-db is written to, run first: bun run --cwd shard-router reshard -- --help (docs/sharding.md, Divide anew)",
    });
  }
}

/** What is in a table that waits for its copy goes when that begins. */
const isFilled = ({ awaiting }: RememberedTable): boolean => awaiting === null;

/** Nothing was ever taken of a table that could not be divided: whatever mends the rules may. */
function isOtherwise(from: Ownership, to: Ownership, schema: TableSchema): boolean {
  const before = from.signatureOf(schema);
  return before !== null && before !== to.signatureOf(schema);
}
