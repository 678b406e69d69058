import { formatLsn, parseLsn } from "@cascade/shared/lsn";
import { snapshotRequestShape } from "@cascade/shared/snapshot-request";
import { parseTableFilter, type TableFilter } from "@cascade/shared/table-pattern";
import { z } from "zod";
import { SLOT_KEY } from "../slot-record.ts";
import { type CopyJob, type CopyState, INITIAL } from "./copy-job.ts";
import type { RowRange } from "./table-reader.ts";

/** Messages of `<prefix>.signals` (contract.md §3): requests that anybody writes, and states that cdc writes. */

const keyTexts = z.record(z.string(), z.string());

export interface SnapshotRequest {
  readonly tables: TableFilter;
  /** The table with this one alone, whatever it is called by now: a router knows names only as they were. */
  readonly oid: number | null;
  readonly replica: string | null;
  readonly range: RowRange;
}

const STATE_PREFIX = "snapshot:";

/** What cdc writes, of copies and of its slot: no request. */
export const isStateKey = (key: string): boolean => key.startsWith(STATE_PREFIX) || key === SLOT_KEY;

/** Throws an Error that says what is wrong with it. */
export function decodeRequest(key: string, value: string): SnapshotRequest {
  if (key === "" || key === INITIAL || key === SLOT_KEY)
    throw new SyntaxError(`a request needs a key of its own, and "${key}" is none`);
  const request = snapshotRequestShape.parse(JSON.parse(value));
  const { oid = null, replica = null, where = null } = request;
  return {
    tables: parseTableFilter(request.tables.join(","), "*.*"),
    oid,
    replica,
    range: { from: textsOf(request.from), to: textsOf(request.to), where },
  };
}

const textsOf = (key: Readonly<Record<string, string | number | boolean>> | undefined): RowRange["from"] =>
  key === undefined ? null : Object.fromEntries(Object.entries(key).map(([name, value]) => [name, String(value)]));

const stateShape = z.object({
  type: z.literal("snapshot-state"),
  request: z.string(),
  oid: z.number(),
  schema: z.string(),
  table: z.string(),
  replica: z.string().nullable(),
  from: keyTexts.nullable(),
  to: keyTexts.nullable(),
  where: z.string().nullable(),
  status: z.enum(["waiting", "copying", "done", "failed", "left"]),
  empties: z.boolean().default(false),
  after: z.string().nullable(),
  keyShape: z.string().nullable(),
  begun: z.boolean(),
  mayBeEmpty: z.boolean().default(false),
  rows: z.number(),
  estimatedRows: z.number().nullable(),
  contains: z
    .string()
    .regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/)
    .nullable()
    .default(null),
  reread: z.array(z.string()),
  error: z.object({ code: z.string(), message: z.string(), advice: z.string() }).nullable(),
});

/** The state of one table's copy, as people may read it, too. */
export type StateMessage = z.infer<typeof stateShape>;

export const stateKey = (request: string, oid: number): string => `${STATE_PREFIX}${request}:${oid}`;

export function encodeState({ request, oid, name, replica, range }: CopyJob, state: CopyState): string {
  const message: StateMessage = {
    type: "snapshot-state",
    request,
    oid,
    ...name,
    replica,
    ...range,
    ...state,
    contains: state.contains === null ? null : formatLsn(state.contains),
    reread: [...state.reread],
  };
  return JSON.stringify(message);
}

/** null when it is not one. */
export const stateMessageOf = (value: string): StateMessage | null => stateShape.safeParse(parsed(value)).data ?? null;

/** null when it is not one. */
export function decodeState(value: string): { readonly job: CopyJob; readonly state: CopyState } | null {
  const message = stateShape.safeParse(parsed(value));
  if (!message.success) return null;
  const { request, oid, schema, table, replica, from, to, where, type: _type, contains, ...state } = message.data;
  const job = { request, oid, name: { schema, table }, replica, range: { from, to, where } };
  return { job, state: { ...state, contains: contains === null ? null : parseLsn(contains) } };
}

function parsed(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return null;
  }
}
