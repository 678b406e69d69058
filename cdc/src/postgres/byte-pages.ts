/** Of one page. What is kept of it keeps all of it. */
const PAGE_BYTES = 64 * 1024;
/** Of them, where pages are given back: as many as wait at a time. */
const MAX_FREE = 64;

/** Room for many short pieces of bytes, one after the other: a buffer for each would cost more than its copy. */
export class BytePages {
  #page: Buffer = Buffer.alloc(0);
  #at = 0;
  /** Those before the page in hand that were not given back, oldest first. */
  #used: Buffer[] = [];
  #free: Buffer[] = [];
  readonly #areGivenBack: boolean;

  constructor({ areGivenBack = false }: { readonly areGivenBack?: boolean } = {}) {
    this.#areGivenBack = areGivenBack;
  }

  /** The page in hand, with room for this many bytes from `at` on. */
  reserve(bytes: number): Buffer {
    if (this.#at + bytes > this.#page.length) {
      if (this.#areGivenBack) this.#used.push(this.#page);
      this.#page = (bytes <= PAGE_BYTES ? this.#free.pop() : undefined) ?? Buffer.allocUnsafeSlow(Math.max(bytes, PAGE_BYTES));
      this.#at = 0;
    }
    return this.#page;
  }

  /** Nobody reads any more what was written before this page, or before the one in hand: memory that was in use a moment ago is faster than new one. */
  giveBackBefore(page: Buffer | null): void {
    const upTo = page === null ? -1 : this.#used.indexOf(page);
    const gone = this.#used.splice(0, upTo === -1 ? this.#used.length : upTo);
    for (const one of gone) if (one.length === PAGE_BYTES && this.#free.length < MAX_FREE) this.#free.push(one);
  }

  get at(): number {
    return this.#at;
  }

  /** What was written from `at` on ends there. */
  wrote(end: number): void {
    this.#at = end;
  }
}
