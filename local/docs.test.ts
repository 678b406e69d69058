import { expect, test } from "bun:test";
import { pageWith, readPage, WRITTEN_PARTS } from "./docs.ts";

test.each(WRITTEN_PARTS)("$page shows what the code has (else: npm run docs)", (part) => {
  const page = readPage(part);
  expect(page).toBe(pageWith(part, page));
});

test.each(WRITTEN_PARTS)("$page without its marks is refused", (part) => {
  expect(() => pageWith(part, "# Cascade")).toThrow(part.name);
});
