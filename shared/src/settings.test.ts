import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Environment,
  flag,
  integer,
  notYet,
  oneOf,
  parsed,
  RefusalError,
  readSettings,
  text,
  unknownVariables,
} from "./settings.ts";

const SETTINGS = {
  NAME: { kind: text("any text"), meaning: "a name" },
  COUNT: { kind: integer(1, 10), default: "3", meaning: "a count" },
  FLAG: { kind: flag, default: "false", meaning: "a flag" },
  MODE: { kind: oneOf("a", "b"), default: null, meaning: "a mode" },
  URL: {
    kind: parsed("x:...", (value) => {
      if (!value.startsWith("x:")) throw new SyntaxError("it has no x");
      return value.length;
    }),
    secret: true,
    file: true,
    default: null,
    meaning: "a URL",
  },
  LATER: notYet("flying"),
} as const;

function findings(environment: Environment): readonly string[] {
  try {
    readSettings(SETTINGS, environment);
  } catch (error) {
    if (error instanceof RefusalError) return error.findings.map(({ message }) => message);
    throw error;
  }
  return [];
}

test("every variable is read as its kind, defaults stand for what is unset or empty", () => {
  expect(readSettings(SETTINGS, { NAME: "n", FLAG: "true", MODE: "", URL: "x:12" })).toEqual({
    NAME: "n",
    COUNT: 3,
    FLAG: true,
    MODE: null,
    URL: 4,
    LATER: null,
  });
});

test("every problem is told at once, with its variable, its value and what is allowed", () => {
  const found = findings({ COUNT: "11", FLAG: "yes", MODE: "c", LATER: "1" });
  expect(found).toHaveLength(5);
  expect(found[0]).toBe("NAME is not set; it must be: any text (a name)");
  expect(found[1]).toBe('COUNT is "11"; allowed: an integer from 1 to 10');
  expect(found[2]).toBe('FLAG is "yes"; allowed: true, false');
  expect(found[3]).toBe('MODE is "c"; allowed: `a`, `b`');
  expect(found[4]).toContain("flying is not in this version");
});

test.each(["1.5", "1e1", " 1", "0x1", "", "99999999999999999999"])("%p is no count", (value) => {
  expect(findings({ NAME: "n", COUNT: value })).toHaveLength(value === "" ? 0 : 1);
});

test("a secret stays unsaid, also when it is wrong", () => {
  const [found] = findings({ NAME: "n", URL: "hunter2" });
  expect(found).toContain("URL is a value that is not shown (it has no x)");
  expect(found).not.toContain("hunter2");
});

test("a value may come from a file, but not from both", () => {
  const folder = mkdtempSync(join(tmpdir(), "cascade-settings-"));
  const file = join(folder, "url");
  writeFileSync(file, "x:file\n");
  expect(readSettings(SETTINGS, { NAME: "n", URL_FILE: file }).URL).toBe(6);
  expect(findings({ NAME: "n", URL_FILE: file, URL: "x:" })).toEqual(["URL and URL_FILE are both set; set one of them"]);
  expect(findings({ NAME: "n", URL_FILE: join(folder, "none") })[0]).toContain("ENOENT");
  rmSync(folder, { recursive: true });
});

test("what concerns several variables is checked once each is right", () => {
  const check = () => ["NAME and COUNT do not go together"];
  expect(() => readSettings(SETTINGS, { NAME: "n" }, check)).toThrow("do not go together");
  expect(() => readSettings(SETTINGS, {}, check)).toThrow("NAME is not set");
});

test("a variable that looks like ours and is not is named", () => {
  expect(unknownVariables(SETTINGS, { URL_FILE: "f", URL_: "x", URLS: "x", OTHER: "x" }, ["URL"])).toEqual(["URL_", "URLS"]);
});
