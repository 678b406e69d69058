import { copyBytes } from "@cascade/shared/json-bytes";
import { isPlain, isSpecialNumber, type WireKind, wireValue } from "./wire-value.ts";

/** The wire values of one row by column: as a rule a part of the message that they came in, which is copied only where the row is written. */
export class RowValues {
  /** -1: the column was not sent. */
  readonly #starts: Int32Array;
  readonly #ends: Int32Array;
  /** Of a value whose wire text is another than the plugin's. */
  readonly #texts: (string | null)[];
  #hasTexts = false;

  constructor(columns: number) {
    this.#starts = new Int32Array(columns).fill(-1);
    this.#ends = new Int32Array(columns);
    this.#texts = new Array<string | null>(columns).fill(null);
  }

  clear(): void {
    this.#starts.fill(-1);
    if (this.#hasTexts) this.#texts.fill(null);
    this.#hasTexts = false;
  }

  has(column: number): boolean {
    return (this.#starts[column] ?? -1) !== -1; // -1 is the place of a column that the relation lacks
  }

  hasAll(): boolean {
    return !this.#starts.includes(-1);
  }

  /** wal2json's JSON of one value, from `start` to `end` in its message. */
  set(column: number, kind: WireKind, bytes: Buffer, start: number, end: number): void {
    this.#starts[column] = start;
    this.#ends[column] = end;
    if (isPlain(kind, bytes[start] as number)) return;
    if (kind === "number" && !isSpecialNumber(bytes, start)) {
      this.#starts[column] = start + 1;
      this.#ends[column] = end - 1;
      return;
    }
    this.#setText(column, wireValue(kind, bytes.toString("utf8", start, end)));
  }

  setNull(column: number): void {
    this.#starts[column] = 0;
    this.#setText(column, "null");
  }

  #setText(column: number, text: string): void {
    this.#texts[column] = text;
    this.#hasTexts = true;
  }

  /** Of another row in the same message. */
  take(column: number, from: RowValues): void {
    this.#starts[column] = from.#starts[column] as number;
    this.#ends[column] = from.#ends[column] as number;
    const text = from.#texts[column] ?? null;
    if (text !== null) this.#setText(column, text);
  }

  sizeOf(column: number): number {
    const text = this.#hasTexts ? this.#texts[column] : null;
    return typeof text === "string" ? Buffer.byteLength(text) : (this.#ends[column] as number) - (this.#starts[column] as number);
  }

  /** Writes the value at `at`, where there must be room for it; returns the position after it. */
  write(column: number, message: Buffer, into: Buffer, at: number): number {
    const text = this.#hasTexts ? this.#texts[column] : null;
    if (typeof text === "string") return at + into.write(text, at);
    return copyBytes(message, this.#starts[column] as number, this.#ends[column] as number, into, at);
  }

  /** All of them as texts; undefined where a column was not sent. */
  texts(message: Buffer): (string | undefined)[] {
    return this.#texts.map((text, column) =>
      this.has(column) ? (text ?? message.toString("utf8", this.#starts[column], this.#ends[column])) : undefined,
    );
  }
}
