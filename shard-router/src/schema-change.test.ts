import { expect, test } from "bun:test";
import { type ColumnSchema, identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import {
  allowedSteps,
  describeSteps,
  losesKeys,
  orderRenames,
  pendingSteps,
  planChange,
  type SchemaStep,
} from "./schema-change.ts";

const tableOf = (columns: readonly ColumnSchema[], key: readonly string[]): TableSchema =>
  identifySchema({ schema: "public", table: "t", oid: 1, columns, key, identity: key.length > 0 ? "default" : "full" });

const NAMES = ["a", "b", "c", "d", "e"];

/** Up to five columns of the attnums 1 to 7, in any names, and a key of some of them. */
const schemas = fc
  .record({
    attnums: fc.uniqueArray(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: NAMES.length }),
    names: fc.shuffledSubarray(NAMES, { minLength: NAMES.length, maxLength: NAMES.length }),
    types: fc.array(fc.constantFrom("integer", "text", "bigint"), { minLength: 5, maxLength: 5 }),
    nullable: fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    keySize: fc.integer({ min: 0, max: 2 }),
  })
  .map(({ attnums, names, types, nullable, keySize }) => {
    const numbers = attnums.toSorted((x, y) => x - y);
    const key = names.slice(0, Math.min(keySize, numbers.length));
    const columns = numbers.map((attnum, at) =>
      columnSchema(names[at] as string, types[at] as string, {
        attnum,
        nullable: nullable[at] === true && !key.includes(names[at] as string),
      }),
    );
    return tableOf(columns, key);
  });

/** What an engine knows of a table: names, types, nullability, a key of names; refuses what an engine would refuse. */
class Model {
  readonly columns = new Map<string, { type: string; nullable: boolean; attnum: number }>();
  key: readonly string[] = [];

  constructor({ columns, key }: TableSchema) {
    for (const { name, type, nullable, attnum } of columns) this.columns.set(name, { type, nullable, attnum });
    this.key = key;
  }

  take(step: SchemaStep): void {
    switch (step.kind) {
      case "drop-key":
        expect(step.key).toEqual(this.key);
        this.key = [];
        return;
      case "drop-column":
        expect(this.key).not.toContain(step.name);
        expect(this.columns.delete(step.name)).toBe(true);
        return;
      case "rename-columns":
        for (const { from, to } of orderRenames(step.renames, (index) => `between ${index}`)) this.rename(from, to);
        return;
      case "change-type":
        Object.assign(this.of(step.to.name), { type: step.to.type });
        return;
      case "add-column":
        expect(this.columns.has(step.column.name)).toBe(false);
        this.columns.set(step.column.name, step.column);
        return;
      case "set-nullable":
      case "set-not-null":
        Object.assign(this.of(step.column.name), { nullable: step.kind === "set-nullable" });
        return;
      case "add-key":
        expect(this.key).toEqual([]);
        for (const name of step.key) this.of(name);
        this.key = step.key;
    }
  }

  rename(from: string, to: string): void {
    const column = this.of(from);
    expect(this.columns.has(to)).toBe(false);
    this.columns.delete(from);
    this.columns.set(to, column);
    this.key = this.key.map((name) => (name === from ? to : name));
  }

  of(name: string) {
    const column = this.columns.get(name);
    if (column === undefined) throw new Error(`no column ${name}`);
    return column;
  }

  toJSON() {
    const columns = [...this.columns].map(([name, { type, nullable, attnum }]) => ({ name, type, nullable, attnum }));
    return { columns: columns.toSorted((x, y) => x.attnum - y.attnum), key: this.key };
  }
}

test("the steps in order, each possible when it comes, make one table the other", () => {
  fc.assert(
    fc.property(schemas, schemas, (from, to) => {
      const model = new Model(from);
      const steps = planChange(from, to);
      for (const step of steps) model.take(step);
      expect(model.toJSON()).toEqual(new Model(to).toJSON());
      expect(planChange(to, to)).toEqual([]);
      expect(allowedSteps("apply", steps)).toBe(steps);
      expect(allowedSteps("off", steps)).toEqual([]);
    }),
    { numRuns: 2_000 },
  );
});

test("of the steps none is left when they are all taken, and all when none is, as far as names tell", () => {
  fc.assert(
    fc.property(schemas, schemas, (from, to) => {
      const steps = planChange(from, to);
      const names = ({ columns }: TableSchema) => columns.map(({ name }) => name);
      expect(pendingSteps(steps, names(from))).toEqual(steps);
    }),
    { numRuns: 1_000 },
  );
});

const [id, a] = [columnSchema("id", "integer", { nullable: false }), columnSchema("a", "text", { attnum: 2 })];
const before = tableOf([id, a], ["id"]);

test("a renamed key is no other key; an added column brings what older rows have in it, and nothing else", () => {
  const n = columnSchema("n", "integer", { attnum: 3, missing: 7, default: "8" });
  const m = columnSchema("m", "integer", { attnum: 4, default: "9" });
  const after = tableOf([{ ...id, name: "key" }, a, n, m], ["key"]);
  const steps = planChange(before, after);
  expect(steps).toEqual([
    { kind: "rename-columns", renames: [{ from: "id", to: "key" }] },
    { kind: "add-column", column: n, existing: 7 },
    { kind: "add-column", column: m, existing: null },
  ]);
  expect(describeSteps(steps)).toBe("renamed column id to key, added column n, added column m");
  expect(allowedSteps("additive", steps)).toEqual(steps.slice(1));
});

test("rows are lost from sight when main-db wrote their keys anew", () => {
  const wide = planChange(before, tableOf([{ ...id, type: "bigint", typeOid: 20 }, a], ["id"]));
  expect(losesKeys(wide, before, true)).toBe(true);
  expect(losesKeys(wide, before, false)).toBe(false);
  const other = tableOf([id, { ...a, type: "integer", typeOid: 23 }], ["id"]);
  expect(losesKeys(planChange(before, other), other, true)).toBe(false);
  const serial = tableOf([id, a, columnSchema("s", "bigint", { attnum: 3, nullable: false })], ["s"]);
  expect(losesKeys(planChange(before, serial), serial, true)).toBe(true);
});

test("names that go round go by way of spare ones", () => {
  const round = [
    { from: "a", to: "b" },
    { from: "b", to: "a" },
    { from: "c", to: "d" },
  ];
  expect(orderRenames(round, (index) => `spare${index}`)).toEqual([
    { from: "c", to: "d" },
    { from: "a", to: "spare0" },
    { from: "b", to: "a" },
    { from: "spare0", to: "b" },
  ]);
});
