import { decodeChangeEvent, type ReceivedEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { comparePositions, formatLsn, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { type Partition, partitionKey, type RawEvent } from "./event-consumer.ts";
import { covers, type HeldKey, keyColumns, keysOfEvent } from "./held-keys.ts";
import { arrived } from "./partition-fence.ts";

/** A dead letter as it is read again. */
export interface ReadLetter {
  readonly partition: Partition;
  readonly position: Position;
  /** With the offset that it had in its own topic. */
  readonly event: RawEvent & { readonly value: string };
}

/** One that is held back still. */
export interface HeldLetter {
  readonly partition: Partition;
  readonly raw: RawEvent;
  readonly event: ReceivedEvent;
  readonly schema: TableSchema;
  /** Of the held keys that it is held back for. */
  readonly ids: readonly string[];
  readonly bytes: number;
}

/** Keys that must be replayed together, for changes moved rows from one to another. */
export interface HeldGroup {
  readonly keys: readonly HeldKey[];
  /** In order, each once: the first of them, at least. */
  readonly letters: readonly HeldLetter[];
  /** How many letters are there, of each key. */
  readonly found: ReadonlyMap<string, number>;
}

/** The letters of held keys, of which the first are kept, by bytes. */
export class LetterPile {
  readonly #held: ReadonlyMap<string, HeldKey>;
  readonly #schemaOf: (id: string) => TableSchema | undefined;
  readonly #maxBytes: number;
  /** null: nothing is held. */
  readonly #all: Pick<HeldKey, "first" | "last"> | null;
  readonly #parents = new Map<string, string>();
  readonly #found = new Map<string, Set<string>>();
  #letters = new Map<string, HeldLetter>();
  #bytes = 0;
  /** No letter from there on is kept. */
  #end: Position | null = null;

  constructor(held: readonly HeldKey[], schemaOf: (id: string) => TableSchema | undefined, maxBytes: number) {
    this.#held = new Map(held.map((key) => [key.id, key]));
    this.#schemaOf = schemaOf;
    this.#maxBytes = maxBytes;
    this.#all = held.length === 0 ? null : { first: firstOf(held), last: lastOf(held) };
  }

  /** What a crash, or a router that had lost its partition, has written twice is taken once. */
  add({ partition, position, event: raw }: ReadLetter): void {
    // Most letters are of keys that were released long ago.
    if (this.#all === null || !covers(this.#all, position)) return;
    const read = readEvent(raw.value);
    const schema = read === null ? undefined : this.#schemaOf(read.schemaId);
    if (read === null || schema === undefined) return; // it is missed, and that is said
    const event = arrived(read, schema);
    const columns = keyColumns(schema);
    const ids = (keysOfEvent(schema, event) ?? []).flatMap(({ id }) => {
      const key = this.#held.get(id);
      return key !== undefined && key.columns === columns && covers(key, position) ? [id] : [];
    });
    const [first] = ids;
    if (first === undefined) return;
    const name = nameOf(partition, position);
    for (const id of ids) {
      this.#parents.set(this.#rootOf(id), this.#rootOf(first));
      const found = this.#found.get(id) ?? new Set();
      this.#found.set(id, found.add(name));
    }
    if (this.#letters.has(name) || (this.#end !== null && comparePositions(position, this.#end) >= 0)) return;
    const bytes = Buffer.byteLength(raw.value);
    this.#letters.set(name, { partition, raw, event, schema, ids, bytes });
    this.#bytes += bytes;
    if (this.#bytes > 2 * this.#maxBytes) this.#cut();
  }

  /** Those that hold back what came first come first. */
  groups(): readonly HeldGroup[] {
    const letters = this.#sorted();
    const counts = new Map([...this.#held.keys()].map((id) => [id, this.#found.get(id)?.size ?? 0]));
    const byRoot = Map.groupBy(this.#held.values(), ({ id }) => this.#rootOf(id));
    const lettersOf = Map.groupBy(letters, ({ ids: [id] }) => this.#rootOf(id as string));
    return [...byRoot]
      .map(([root, keys]) => ({
        keys,
        letters: lettersOf.get(root) ?? [],
        found: counts,
      }))
      .toSorted((a, b) => comparePositions(firstOf(a.keys), firstOf(b.keys)));
  }

  #sorted(): readonly HeldLetter[] {
    return [...this.#letters.values()].toSorted((a, b) => comparePositions(a.event, b.event));
  }

  #cut(): void {
    const kept = new Map<string, HeldLetter>();
    this.#bytes = 0;
    for (const letter of this.#sorted()) {
      if (kept.size > 0 && this.#bytes + letter.bytes > this.#maxBytes) {
        this.#end = letter.event;
        break;
      }
      kept.set(nameOf(letter.partition, letter.event), letter);
      this.#bytes += letter.bytes;
    }
    this.#letters = kept;
  }

  #rootOf(id: string): string {
    let root = id;
    for (let parent = this.#parents.get(root); parent !== undefined && parent !== root; parent = this.#parents.get(root))
      root = parent;
    return root;
  }
}

/** null: somebody else has written it. */
function readEvent(value: string): ReceivedEvent | null {
  try {
    return decodeChangeEvent(value);
  } catch (error) {
    if (error instanceof CascadeError) return null;
    throw error;
  }
}

/** Of one key at least. */
const firstOf = (keys: readonly HeldKey[]): Position =>
  keys.map(({ first }) => first).reduce((a, b) => (comparePositions(a, b) <= 0 ? a : b));
const lastOf = (keys: readonly HeldKey[]): Position =>
  keys.map(({ last }) => last).reduce((a, b) => (comparePositions(a, b) >= 0 ? a : b));

/** An update that moved a row to another partition is a delete in its old one, at the same position. */
const nameOf = (partition: Partition, { commitLsn, ordinal }: Position): string =>
  `${partitionKey(partition)}/${formatLsn(commitLsn)}/${ordinal}`;
