import { expect, test } from "bun:test";
import fc from "fast-check";
import { BytePages } from "./byte-pages.ts";

interface Piece {
  readonly page: Buffer;
  readonly start: number;
  readonly end: number;
  readonly filler: number;
}

/** As `WalSource` does: more is reserved than is written. */
function write(pages: BytePages, size: number, spare: number, filler: number): Piece {
  const page = pages.reserve(size + spare);
  const start = pages.at;
  expect(start + size + spare).toBeLessThanOrEqual(page.length);
  page.fill(filler, start, start + size);
  pages.wrote(start + size);
  return { page, start, end: start + size, filler };
}

const isWhole = ({ page, start, end, filler }: Piece): boolean => page.subarray(start, end).every((byte) => byte === filler);

const size = fc.oneof(
  fc.nat(300),
  fc.integer({ min: 15_000, max: 40_000 }),
  fc.integer({ min: 65_500, max: 65_600 }),
  fc.constant(200_000),
);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("write" as const), size, spare: fc.constantFrom(0, 25) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("read" as const), count: fc.nat(5) }) },
);

test("what waits to be read keeps its bytes, whatever is written meanwhile on pages given back", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const pages = new BytePages({ areGivenBack: true });
      const waiting: Piece[] = [];
      for (const [i, each] of steps.entries()) {
        if (each.kind === "write") waiting.push(write(pages, each.size, each.spare, i % 251));
        else {
          for (const piece of waiting.splice(0, each.count)) expect(isWhole(piece)).toBe(true);
          pages.giveBackBefore(waiting[0]?.page ?? null);
        }
      }
      expect(waiting.every(isWhole)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test.each([16_383, 16_384, 16_385])("a page is filled up to its last byte, and not beyond: %d at the end", (last) => {
  const pages = new BytePages();
  const pieces = [16_384, 16_384, 16_384, last].map((each, i) => write(pages, each, 0, i));
  expect(pieces.every(isWhole)).toBe(true);
  expect(pieces[3]?.page === pieces[0]?.page).toBe(last <= 16_384);
});

test("what is kept keeps its bytes for good where pages are not given back", () => {
  const pages = new BytePages();
  const kept = Array.from({ length: 500 }, (_, i) => write(pages, 1_000 + i, 0, i % 251));
  pages.giveBackBefore(null);
  write(pages, 60_000, 0, 255);
  expect(kept.every(isWhole)).toBe(true);
});

test("a stream that is read as it comes needs two pages for ever", () => {
  const pages = new BytePages({ areGivenBack: true });
  const seen = new Set<Buffer>();
  for (let i = 0; i < 1_000; i++) {
    seen.add(write(pages, 10_000, 25, i % 251).page);
    pages.giveBackBefore(null);
  }
  expect(seen.size).toBeLessThanOrEqual(2);
});
