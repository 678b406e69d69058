import { CascadeError } from "@cascade/shared/errors";
import type { Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { RememberedTable, TableChange } from "./replica.ts";
import { addsKey, allowedSteps, losesKeys, planChange, type SchemaPolicy } from "./schema-change.ts";
import { isSameName, type SchemaHistory } from "./schema-history.ts";

export interface Bringing {
  /** What the table is to be like, */
  readonly schema: TableSchema;
  /** and from where on main-db's is. */
  readonly at: Position;
  readonly history: SchemaHistory;
  readonly policy: SchemaPolicy;
  readonly all: ReadonlyMap<number, RememberedTable>;
  readonly mayCreate: boolean;
}

/**
 * Makes the replica's table one of `schema`, whatever the others are called. Names are the newest known, never those between: a table in
 * the way has another name by now, or is gone.
 */
export function bringChanges(bringing: Bringing): readonly TableChange[] {
  const { schema, policy, all } = bringing;
  const from = all.get(schema.oid);
  if (policy !== "apply") return [...makeRoom(bringing, schema), ...withoutRenames(bringing, from)];
  const named = bringing.history.newest(schema.oid)?.schema ?? schema;
  const room = makeRoom(bringing, named);
  return [...room, ofTable(bringing, from, nameOf(named)), ...backFrom(room, bringing, nameOf(named))];
}

/**
 * The same where the rows of the table do not allow its key (or it is the one with the OID `divided`, of which other rows are wanted from now on): they go, and the table waits for a copy, for `copy` unless for one already. That
 * first: where DDL is no part of a transaction a crash may come between.
 */
export const emptied = (changes: readonly TableChange[], copy: string, divided: number | null = null): readonly TableChange[] =>
  changes.flatMap((change): readonly TableChange[] => {
    if (change.kind !== "alter") return [change];
    const { from } = change;
    if (divided === null ? !addsKey(change.steps) : from.oid !== divided) return [change];
    if (from.awaiting !== null) return [{ ...change, empties: true }];
    const waiting = { ...from, revision: from.revision + 1, awaiting: copy };
    return [
      { kind: "await", from, awaiting: copy },
      { ...change, from: waiting, empties: true },
    ];
  });

export const dropChanges = (gone: readonly RememberedTable[]): readonly TableChange[] =>
  gone.map((from) => ({ kind: "drop", from }));

function ofTable(bringing: Bringing, from: RememberedTable | undefined, named: TableName): TableChange {
  const { schema, at, history, policy, mayCreate } = bringing;
  if (from === undefined) return { kind: "create", schema, at, named, mayCreate };
  const steps = allowedSteps(policy, planChange(from.schema, schema));
  const rewritten = history.isRewritten(schema.oid, from.at, at);
  return { kind: "alter", from, schema, at, named, steps, rewritten, empties: losesKeys(steps, schema, rewritten) };
}

/** What becomes of the tables that have the name now. */
function makeRoom({ schema, history, policy, all }: Bringing, name: TableName): readonly TableChange[] {
  const inTheWay = [...all.values()].filter(({ oid, named }) => oid !== schema.oid && isSameName(named, name));
  return inTheWay.map((from): TableChange => {
    if (policy !== "apply") return { kind: "release", from, otherwise: nameNotFree(from, schema, policy) };
    if (history.newest(from.oid) === null) return { kind: "drop", from };
    return { kind: "move", from, named: { schema: name.schema, table: `cascade moving ${from.oid}` } };
  });
}

/** Those that were moved out of the way get the names that they have on main-db, where these are free. */
function backFrom(room: readonly TableChange[], { history, all, schema }: Bringing, taken: TableName): readonly TableChange[] {
  const moved = room.flatMap((change) => (change.kind === "move" ? [change] : []));
  const others = [...all.values()].filter(({ oid }) => oid !== schema.oid && !moved.some(({ from }) => from.oid === oid));
  return moved.flatMap(({ from, named }) => {
    const wanted = history.newest(from.oid)?.schema;
    if (wanted === undefined || isSameName(wanted, taken) || others.some((other) => isSameName(other.named, wanted))) return [];
    return [{ kind: "move", from: { ...from, named, revision: from.revision + 1 }, named: nameOf(wanted) } as const];
  });
}

/** A table of another name is another table: somebody has to rename it, and then it is taken as it is. */
function withoutRenames(bringing: Bringing, from: RememberedTable | undefined): readonly TableChange[] {
  const { schema } = bringing;
  const name = nameOf(schema);
  if (from === undefined || isSameName(from.named, schema)) return [ofTable(bringing, from, name)];
  const otherwise = renamed(from, schema, bringing.policy);
  return [{ kind: "release", from, otherwise }, ofTable({ ...bringing, mayCreate: false }, undefined, name)];
}

const nameOf = ({ schema, table }: TableName): TableName => ({ schema, table });

function nameNotFree(from: RememberedTable, schema: TableSchema, policy: SchemaPolicy): CascadeError {
  const name = formatTableName(from.named);
  return new CascadeError({
    code: "REPLICA_NAME_TAKEN",
    verdict: "stop-table",
    message: `main-db has another table ${formatTableName(schema)} now, and the replica's table of that name is the one before, which ROUTER_DDL=${policy} leaves alone`,
    advice: `drop or rename the replica's table of ${name}, and the new one is made by itself; or set ROUTER_DDL=apply`,
  });
}

function renamed(from: RememberedTable, schema: TableSchema, policy: SchemaPolicy): CascadeError {
  const [old, name] = [formatTableName(from.named), formatTableName(schema)];
  return new CascadeError({
    code: "REPLICA_TABLE_MISMATCH",
    verdict: "stop-table",
    message: `${old} was renamed to ${name} on main-db, and ROUTER_DDL=${policy} leaves the replica's table as it is called`,
    advice: `rename the replica's table of ${old} as that of ${name} is called, and it goes on by itself; or set ROUTER_DDL=apply`,
  });
}
