import { describe, expect, test } from "bun:test";
import { javaMajor } from "./java.ts";
import { planFor, wal2jsonMajors } from "./requirements.ts";

const missing = [
  { what: "PostgreSQL with wal2json", debian: ["postgresql-15 postgresql-15-wal2json", "postgresql-14 postgresql-14-wal2json"] },
  { what: "Maven", debian: ["maven"] },
];

describe("what set-up does about missing programs", () => {
  test("nothing when none is missing, whatever it may", () => {
    expect(planFor([], { aptPrefix: null, hasApt: false })).toEqual({ kind: "ready" });
  });

  test("installs as root and by sudo without a password", () => {
    expect(planFor(missing, { aptPrefix: [], hasApt: true })).toEqual({ kind: "install", prefix: [] });
    expect(planFor(missing, { aptPrefix: ["sudo", "-n"], hasApt: true })).toEqual({ kind: "install", prefix: ["sudo", "-n"] });
  });

  test("otherwise refuses with the exact command and the way through Docker", () => {
    const plan = planFor(missing, { aptPrefix: null, hasApt: true });
    expect(plan.kind === "refuse" && plan.message).toContain("apt-get install postgresql-15 postgresql-15-wal2json maven\n");
    expect(plan.kind === "refuse" && plan.message).toContain("docker compose up --build");
  });

  test("names what is missing where apt isn't known, also to root", () => {
    const plan = planFor(missing, { aptPrefix: [], hasApt: false });
    expect(plan.kind === "refuse" && plan.message).toMatch(/PostgreSQL with wal2json\n.*Maven[\s\S]*docker compose up --build/);
  });
});

test("the newest PostgreSQL with the plugin comes first", () => {
  expect(wal2jsonMajors(["postgresql-9-wal2json", "postgresql-17-wal2json", "postgresql-17-wal2json-dbgsym", ""])).toEqual([
    17, 9,
  ]);
});

test("reads Java's version in its old and new form", () => {
  expect(javaMajor('openjdk version "17.0.15" 2025-04-15')).toBe(17);
  expect(javaMajor('java version "1.8.0_402"')).toBe(8);
  expect(javaMajor("command not found")).toBe(0);
});
