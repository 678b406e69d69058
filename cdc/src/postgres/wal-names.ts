import { hasAt } from "./json-cut.ts";

/** The names in a message's `"schema":"public","table":"orders"`, from the first quote on. */
export interface WalName {
  readonly schema: string;
  readonly table: string;
  /** Of their text in the message, in bytes. */
  readonly length: number;
}

interface Known extends WalName {
  readonly text: Buffer;
}

interface Places {
  readonly nameAt: number;
  readonly schemaEnd: number;
  readonly tableAt: number;
  readonly tableEnd: number;
}

/** More tables than are written to at a time. */
const MAX_NAMES = 8192;

/** Names of tables as strings, made once: rows come with the bytes of theirs. */
export class WalNames {
  /** By a hash of their bytes. */
  #known = new Map<number, Known>();
  #last: Known | null = null;

  /** What the last message had, where this one has the same; else null. */
  lastAt(bytes: Buffer, nameAt: number, end: number): WalName | null {
    return this.#last !== null && hasAt(bytes, nameAt, end, this.#last.text) ? this.#last : null;
  }

  read(bytes: Buffer, { nameAt, schemaEnd, tableAt, tableEnd }: Places): WalName {
    const hash = hashOf(bytes, nameAt, tableEnd);
    let known = this.#known.get(hash);
    if (known === undefined || known.length !== tableEnd - nameAt || !hasAt(bytes, nameAt, tableEnd, known.text)) {
      const text = Buffer.from(bytes.subarray(nameAt, tableEnd)); // of its own
      known = { schema: nameIn(bytes, nameAt, schemaEnd), table: nameIn(bytes, tableAt, tableEnd), length: text.length, text };
      if (this.#known.size >= MAX_NAMES) this.#known = new Map();
      this.#known.set(hash, known);
    }
    this.#last = known;
    return known;
  }
}

/** FNV-1a. */
function hashOf(bytes: Buffer, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193);
  return hash;
}

const nameIn = (bytes: Buffer, start: number, end: number): string => JSON.parse(bytes.toString("utf8", start, end)) as string;
