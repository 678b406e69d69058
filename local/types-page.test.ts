import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./paths.ts";
import { pageWithTypes } from "./types-page.ts";

test("docs/types.md shows the type table (else: npm run docs)", () => {
  const page = readFileSync(join(repository, "docs", "types.md"), "utf8");
  expect(page).toBe(pageWithTypes(page));
});
