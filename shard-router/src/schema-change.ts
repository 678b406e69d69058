import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";

/** One difference between two schemas of one table. Columns are called as the step before it left them. */
export type SchemaStep =
  /** Before the columns of the old key go. `key`: names of the old schema. */
  | { readonly kind: "drop-key"; readonly key: readonly string[] }
  | { readonly kind: "drop-column"; readonly name: string }
  /** All renames of a table at once: names may be swapped, or go round. */
  | { readonly kind: "rename-columns"; readonly renames: readonly Rename[] }
  /** `from` has its new name already. */
  | { readonly kind: "change-type"; readonly from: ColumnSchema; readonly to: ColumnSchema }
  /** `existing`: what the rows that are there have in it, as main-db says; never a guess from the default. */
  | { readonly kind: "add-column"; readonly column: ColumnSchema; readonly existing: WireValue }
  | { readonly kind: "set-nullable"; readonly column: ColumnSchema }
  /** Where no row has a NULL: else the column stays as it is, for that takes main-db's rows as well. */
  | { readonly kind: "set-not-null"; readonly column: ColumnSchema }
  /** `key`: names of the new schema. */
  | { readonly kind: "add-key"; readonly key: readonly string[] };

export interface Rename {
  readonly from: string;
  readonly to: string;
}

/**
 * What makes a table of schema `from` one of schema `to`, in an order in which it can be done; nothing of what lay between needs to be
 * known. Columns are told by attnum, so a rename is a rename. The table's own name is not part of it.
 */
export function planChange(from: TableSchema, to: TableSchema): readonly SchemaStep[] {
  const old = new Map(from.columns.map((column) => [column.attnum, column]));
  const wanted = new Set(to.columns.map(({ attnum }) => attnum));
  const pairs = to.columns.flatMap((column) => {
    const before = old.get(column.attnum);
    return before === undefined ? [] : [{ from: before, to: column }];
  });
  const keyChanges = !sameKey(from, to);
  const renames = pairs.flatMap((pair) => (pair.from.name === pair.to.name ? [] : [{ from: pair.from.name, to: pair.to.name }]));
  return [
    ...(keyChanges && from.key.length > 0 ? [{ kind: "drop-key", key: from.key } as const] : []),
    ...from.columns.flatMap(({ name, attnum }) => (wanted.has(attnum) ? [] : [{ kind: "drop-column", name } as const])),
    ...(renames.length > 0 ? [{ kind: "rename-columns", renames } as const] : []),
    ...pairs.flatMap((pair) =>
      sameType(pair.from, pair.to)
        ? []
        : [{ kind: "change-type", from: { ...pair.from, name: pair.to.name }, to: pair.to } as const],
    ),
    ...to.columns.flatMap((column) =>
      old.has(column.attnum) ? [] : [{ kind: "add-column", column, existing: column.missing ?? null } as const],
    ),
    ...pairs.flatMap((pair) => nullability(pair.from, pair.to)),
    ...(keyChanges && to.key.length > 0 ? [{ kind: "add-key", key: to.key } as const] : []),
  ];
}

const sameType = (a: ColumnSchema, b: ColumnSchema): boolean => a.typeOid === b.typeOid && a.type === b.type;

function nullability(from: ColumnSchema, to: ColumnSchema): readonly SchemaStep[] {
  if (from.nullable === to.nullable) return [];
  return [{ kind: to.nullable ? "set-nullable" : "set-not-null", column: to }];
}

/** Whether both are found by the same columns, in the same order, whatever these are called. */
function sameKey(from: TableSchema, to: TableSchema): boolean {
  const [a, b] = [keyNumbers(from), keyNumbers(to)];
  return a.length === b.length && a.every((attnum, at) => attnum === b[at]);
}

function keyNumbers({ columns, key }: TableSchema): readonly (number | undefined)[] {
  const numbers = new Map(columns.map(({ name, attnum }) => [name, attnum]));
  return key.map((name) => numbers.get(name));
}

/**
 * Whether rows that main-db wrote anew, unseen, may have other keys now than the replica's: it cannot find them again, so the table is
 * emptied, and the copy that cdc makes of it brings them all.
 */
export function losesKeys(steps: readonly SchemaStep[], to: TableSchema, rewritten: boolean): boolean {
  if (!rewritten) return false;
  const key = new Set(to.key);
  return steps.some(
    (step) =>
      (step.kind === "change-type" && key.has(step.to.name)) ||
      (step.kind === "add-column" && step.existing === null && key.has(step.column.name)),
  );
}

export const addsKey = (steps: readonly SchemaStep[]): boolean => steps.some(({ kind }) => kind === "add-key");

/** The renames one by one, so that no name is taken when it is given: what goes round goes by way of `spare` names. */
export function orderRenames(renames: readonly Rename[], spare: (index: number) => string): readonly Rename[] {
  const waiting = [...renames];
  const ordered: Rename[] = [];
  for (let spares = 0; waiting.length > 0; ) {
    const taken = new Set(waiting.map(({ from }) => from));
    const free = waiting.findIndex(({ to }) => !taken.has(to));
    if (free >= 0) {
      ordered.push(...waiting.splice(free, 1));
      continue;
    }
    const first = waiting.shift() as Rename;
    const between = spare(spares++);
    ordered.push({ from: first.from, to: between });
    waiting.push({ from: between, to: first.to });
  }
  return ordered;
}

export const SCHEMA_POLICIES = ["apply", "additive", "off"] as const;
/** ROUTER_DDL: what a router may do to a table by itself. */
export type SchemaPolicy = (typeof SCHEMA_POLICIES)[number];

/**
 * The steps that the policy lets a router take. Whether the table takes the rows without the others, is seen from the table: where it
 * does not, the table stops with the SQL that mends it.
 */
export function allowedSteps(policy: SchemaPolicy, steps: readonly SchemaStep[]): readonly SchemaStep[] {
  switch (policy) {
    case "apply":
      return steps;
    case "additive":
      return steps.filter(({ kind }) => kind === "add-column");
    case "off":
      return [];
  }
}

/** For the log: names only. */
export function describeSteps(steps: readonly SchemaStep[]): string {
  return steps.map(describeStep).join(", ");
}

function describeStep(step: SchemaStep): string {
  switch (step.kind) {
    case "drop-key":
      return `key (${step.key.join(", ")}) dropped`;
    case "drop-column":
      return `dropped column ${step.name}`;
    case "rename-columns":
      return step.renames.map(({ from, to }) => `renamed column ${from} to ${to}`).join(", ");
    case "change-type":
      return `column ${step.to.name} is ${step.to.type} now (was ${step.from.type})`;
    case "add-column":
      return `added column ${step.column.name}`;
    case "set-nullable":
      return `column ${step.column.name} takes NULL`;
    case "set-not-null":
      return `column ${step.column.name} takes NULL no more`;
    case "add-key":
      return `key is (${step.key.join(", ")}) now`;
  }
}

/**
 * The steps that are not taken already, as far as the names of the table's columns tell: by somebody who was told to, or before a crash
 * on an engine whose DDL commits. `fold`: how the engine compares names.
 */
export function pendingSteps(
  steps: readonly SchemaStep[],
  columns: readonly string[],
  fold = (name: string): string => name,
): readonly SchemaStep[] {
  const names = new Set(columns.map(fold));
  return steps.filter((step) => {
    if (isTaken(step, (name) => names.has(fold(name)))) return false;
    if (step.kind === "drop-column") names.delete(fold(step.name));
    if (step.kind === "add-column") names.add(fold(step.column.name));
    if (step.kind === "rename-columns") {
      for (const { from } of step.renames) names.delete(fold(from));
      for (const { to } of step.renames) names.add(fold(to));
    }
    return true;
  });
}

function isTaken(step: SchemaStep, has: (name: string) => boolean): boolean {
  switch (step.kind) {
    case "drop-column":
      return !has(step.name);
    case "add-column":
      return has(step.column.name);
    case "rename-columns":
      return step.renames.some(({ from }) => !has(from)) && step.renames.every(({ to }) => has(to));
    default:
      return false;
  }
}
