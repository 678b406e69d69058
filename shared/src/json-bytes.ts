/**
 * JSON as UTF-8 bytes, a part of a buffer that others share: what passes through is copied, and no string is made of it. It keeps all of that
 * buffer alive; what is held for long is held as its text.
 */
export class JsonBytes {
  readonly bytes: Buffer;
  readonly start: number;
  /** Position after its last byte. */
  readonly end: number;

  constructor(bytes: Buffer, start: number, end: number) {
    this.bytes = bytes;
    this.start = start;
    this.end = end;
  }

  static of(text: string): JsonBytes {
    const bytes = Buffer.from(text);
    return new JsonBytes(bytes, 0, bytes.length);
  }

  /** In bytes. */
  get length(): number {
    return this.end - this.start;
  }

  toString(): string {
    return this.bytes.toString("utf8", this.start, this.end);
  }

  /** For JSON.stringify, as a string in its place would be. */
  toJSON(): string {
    return this.toString();
  }
}

/** Bytes of either, as UTF-8. */
export const byteLengthOf = (json: string | JsonBytes): number =>
  typeof json === "string" ? Buffer.byteLength(json) : json.end - json.start;

/** Copies it to `at`, where there must be room for it; returns the position after it. */
export function writeJson(json: string | JsonBytes, into: Buffer, at: number): number {
  return typeof json === "string" ? at + into.write(json, at) : copyBytes(json.bytes, json.start, json.end, into, at);
}

/** Below this a loop is faster than a call into the engine (`npm run bench -- --part capture`). */
const SHORT_BYTES = 24;

/** Copies a part of `from` to `at`; returns the position after it. */
export function copyBytes(from: Buffer, start: number, end: number, into: Buffer, at: number): number {
  if (end - start > SHORT_BYTES) {
    from.copy(into, at, start, end);
    return at + end - start;
  }
  for (let i = start; i < end; i++) into[at++] = from[i] as number;
  return at;
}
