import type { Random } from "./random.ts";

/** Keys of rows that are there, to pick one from. When full, a new key takes the place of a random one, whose row then rests. */
export class KeyPool<Key> {
  readonly #keys: Key[];
  readonly #capacity: number;
  readonly #random: Random;

  constructor(random: Random, keys: readonly Key[] = [], capacity = 5_000) {
    this.#random = random;
    this.#capacity = capacity;
    this.#keys = keys.slice(0, capacity);
  }

  get size(): number {
    return this.#keys.length;
  }

  add(key: Key): void {
    if (this.#keys.length < this.#capacity) this.#keys.push(key);
    else this.#keys[this.#random.between(0, this.#capacity - 1)] = key;
  }

  /** Null when there is none. */
  pick(): Key | null {
    return this.#keys[this.#random.between(0, this.#keys.length - 1)] ?? null;
  }

  some(count: number): readonly Key[] {
    return [...new Set(Array.from({ length: count }, () => this.pick()))].filter((key) => key !== null);
  }

  take(): Key | null {
    if (this.#keys.length === 0) return null;
    const at = this.#random.between(0, this.#keys.length - 1);
    const key = this.#keys[at] ?? null;
    const last = this.#keys.pop();
    if (last !== undefined && at < this.#keys.length) this.#keys[at] = last;
    return key;
  }
}
