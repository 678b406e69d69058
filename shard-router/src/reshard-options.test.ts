import { expect, test } from "bun:test";
import { UsageError } from "./dead-letters-options.ts";
import { RESHARD_USAGE, readReshardOptions } from "./reshard-options.ts";

const read = (...args: readonly string[]) => readReshardOptions(args, (path) => `sqlite:///from/${path}\n`);

test("a part, its rules, and the replicas beside, from files too", () => {
  const options = read(
    "--",
    "--shard",
    "0/4",
    "--keys",
    "public.t=*",
    "--beside",
    "sqlite:///a.db",
    "--beside-file",
    "b.db",
    "--timeout",
    "90",
  );
  expect(options?.shard).toEqual({ index: 0, count: 4 });
  expect(options?.rules?.text).toBe("public.t=*");
  expect(options?.beside.map(({ defaultName }) => defaultName)).toEqual(["a", "b"]);
  expect(options?.timeoutMs).toBe(90_000);
});

test("what is left out", () => {
  expect(read("--shard", "1/2")).toMatchObject({ rules: null, beside: [], timeoutMs: null });
  expect(read("--keys", "public.t=region:eu")?.shard).toBeNull();
  expect(read("--help")).toBeNull();
});

test("what is wrong is named, and a URL is not shown", () => {
  const wrong: readonly (readonly [readonly string[], string])[] = [
    [[], "Say --shard, or --keys"],
    [["--shard", "4/4"], "there is no shard 4 of 4"],
    [["--shard", "0/2", "--keys", "t"], "--keys: "],
    [["--shard", "0/2", "--beside", "sqlite:///a.db", "--beside", "postgres://u:secret@"], "--beside, the 2.: "],
    [["--shard", "0/4", "--shard", "1/4"], "--shard is given twice"],
    [["--shard", "0/4", "postgres://u:secret@h/d"], "is --beside missing"],
    [["--shard", "0/2", "--timeout", "soon"], "--timeout: it is not a number of seconds"],
    [["--shard", "0/2", "--force"], "--force"],
    [["0/2"], "belongs to no option"],
  ];
  for (const [args, text] of wrong) {
    expect(() => read(...args)).toThrow(UsageError);
    expect(() => read(...args)).toThrow(text);
    expect(() => read(...args)).not.toThrow("secret");
  }
});

test("each option is in the help", () => {
  for (const option of ["--shard", "--keys", "--beside", "--beside-file", "--timeout", "--help"])
    expect(RESHARD_USAGE).toContain(`  ${option} `);
});
