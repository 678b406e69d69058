import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { ERROR_CODES, type ErrorCode, type ErrorCodeEntry } from "@cascade/shared/error-codes";
import { KAFKA_REACTIONS, KAFKAJS_REACTIONS } from "@cascade/shared/kafka-reactions";
import { Glob } from "bun";
import { MYSQL_RULES } from "../shard-router/src/replicas/mysql-errors.ts";
import { POSTGRES_RULES } from "../shard-router/src/replicas/postgres-errors.ts";
import { repository } from "./paths.ts";

/** What docs/errors.md is written from says all that there is, and nothing that is not. */

const sources = ["shared", "cdc", "shard-router"].flatMap((folder) =>
  [...new Glob(`${folder}/src/**/*.ts`).scanSync(repository)].filter((path) => !path.endsWith(".test.ts")),
);
const texts = sources
  .filter((path) => !path.endsWith("error-codes.ts"))
  .map((path) => readFileSync(join(repository, path), "utf8"));

test("every code is used, with the verdicts that it is documented with", () => {
  const all = texts.join("\n");
  expect((Object.keys(ERROR_CODES) as ErrorCode[]).filter((code) => !all.includes(`"${code}"`))).toEqual([]);
  const undocumented = [...all.matchAll(/code: "([A-Z_]+)",\s*verdict: "([a-z-]+)"/g)].filter(([, code, verdict]) => {
    const entry: ErrorCodeEntry | undefined = ERROR_CODES[code as ErrorCode];
    return entry?.verdict.includes(verdict as never) !== true;
  });
  expect(undocumented.map(([text]) => text)).toEqual([]);
});

test("every class of SQLSTATEs that PostgreSQL has, means something on a replica", () => {
  const versions = readdirSync("/usr/share/postgresql").filter((name) => /^\d+$/.test(name));
  const states = versions.flatMap((version) =>
    [...readFileSync(`/usr/share/postgresql/${version}/errcodes.txt`, "utf8").matchAll(/^([0-9A-Z]{5})\s+[EWS]\s/gm)].map(
      ([, state = ""]) => state,
    ),
  );
  expect(states.length).toBeGreaterThan(200);
  expect(states.filter((state) => POSTGRES_RULES[state.slice(0, 2)] === undefined)).toEqual([]);
  const known = new Set([...states, ...states.map((state) => state.slice(0, 2))]);
  // 10: XQuery's, in newer servers.
  expect(Object.keys(POSTGRES_RULES).filter((state) => !known.has(state))).toEqual(["10"]);
});

test("every error of Kafka's that its client knows, means something", () => {
  const require = createRequire(join(repository, "shared/package.json"));
  const folder = join(require.resolve("kafkajs"), "..", "src");
  const namesIn = (file: string, pattern: RegExp) =>
    [...readFileSync(join(folder, file), "utf8").matchAll(pattern)].map(([, name = ""]) => name);
  const types = namesIn("protocol/error.js", /type: '([A-Z_]+)'/g);
  expect(types.length).toBeGreaterThan(80);
  expect(types.filter((type) => !KAFKA_REACTIONS.has(type))).toEqual([]);
  expect([...KAFKA_REACTIONS.keys()].filter((type) => !types.includes(type))).toEqual([]);
  const classes = namesIn("errors.js", /class (\w+)/g);
  expect(Object.keys(KAFKAJS_REACTIONS).filter((name) => !classes.includes(name))).toEqual([]);
});

test("the error numbers are those of the connector's list", () => {
  const require = createRequire(join(repository, "shard-router/package.json"));
  const list = join(require.resolve("mariadb/package.json"), "..", "lib", "const", "error-code.js");
  const numbers = new Set([...readFileSync(list, "utf8").matchAll(/^codes\[(\d+)\]/gm)].map(([, errno]) => Number(errno)));
  expect(numbers.size).toBeGreaterThan(500);
  // The client's own; MySQL 8's: session killed, lock not available, check constraint, no conversion.
  const others = [2002, 2003, 2006, 2013, 3169, 3572, 3819, 3988];
  expect([...MYSQL_RULES.keys()].filter((errno) => errno < 45_000 && !numbers.has(errno) && !others.includes(errno))).toEqual([]);
});
