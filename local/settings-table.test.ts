import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./paths.ts";
import { readmeWithSettings } from "./settings-table.ts";

test("the README's configuration tables are those of the services (else: npm run docs)", () => {
  const readme = readFileSync(join(repository, "README.md"), "utf8");
  expect(readme).toBe(readmeWithSettings(readme));
});

test("a README without its marks is refused", () => {
  expect(() => readmeWithSettings("# Cascade")).toThrow("settings");
});
