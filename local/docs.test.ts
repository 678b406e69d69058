import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pageWith, readPage, WRITTEN_FILES, WRITTEN_PARTS } from "./docs.ts";
import { repository } from "./paths.ts";

test.each(WRITTEN_PARTS)("$page shows what the code has (else: npm run docs)", (part) => {
  const page = readPage(part);
  expect(page).toBe(pageWith(part, page));
});

test.each(WRITTEN_PARTS)("$page without its marks is refused", (part) => {
  expect(() => pageWith(part, "# Cascade")).toThrow(part.name);
});

test.each(WRITTEN_FILES)("$file is what it is written from (else: npm run docs)", ({ file, write }) => {
  expect(readFileSync(join(repository, file), "utf8")).toBe(write());
});
