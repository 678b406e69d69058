import { expect, test } from "bun:test";
import { JsonBytes } from "@cascade/shared/json-bytes";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { identifySchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type { SourceMessage } from "../change-source.ts";
import { SchemaHistory } from "../schema-history.ts";
import { ChangeDecoder } from "./change-decoder.ts";
import { KnownTables } from "./known-tables.ts";

const TABLE = tableSchema("t", { id: "integer", n: "integer" });
const CAPTURE = { filter: parseTableFilter("public.*"), prefix: "app" };

/** What a life tells of a row that was written before its table left, where the stream begins before that. */
async function toldOf(left: readonly number[]): Promise<readonly SourceMessage[]> {
  const at = { commitLsn: 50n, ordinal: 0 };
  const history = new SchemaHistory([{ kind: "schema", schema: TABLE, at, rewritten: false }]);
  const catalog = { capture: CAPTURE, fingerprint: async () => "", relation: async () => "absent" as const };
  const decoder = new ChangeDecoder({ catalog, warn: () => undefined, losesNumbers: false, history, left });
  decoder.told = true;
  decoder.tables.begin([], 100n);
  const messages: SourceMessage[] = [];
  const texts = [
    '{"action":"B","xid":7,"timestamp":"2026-11-28 10:00:00+00","lsn":"0/70","nextlsn":"0/90"}',
    '{"action":"I","xid":7,"timestamp":"2026-11-28 10:00:00+00","lsn":"0/72","schema":"public","table":"t","columns":[{"name":"id","typeoid":23,"value":1},{"name":"n","typeoid":23,"value":2}]}',
  ];
  for (const text of texts) await decoder.decodeOne(JsonBytes.of(text), messages);
  return messages;
}

test("a row from before its table left, delivered again, does not pass for the table's return", async () => {
  const kinds = (messages: readonly SourceMessage[]) => messages.map(({ kind }) => kind);
  expect(kinds(await toldOf([]))).toEqual(["table", "change"]);
  expect(kinds(await toldOf([TABLE.oid]))).toEqual(["table", "change"]);
});

test("a name is the table's that was announced last under it: one that left it is not announced under another", () => {
  const named = { kind: "schema", rewritten: false } as const;
  const [older, newer] = [identifySchema({ ...TABLE, oid: 1 }), identifySchema({ ...TABLE, oid: 2 })];
  const history = new SchemaHistory([
    { ...named, schema: newer, at: { commitLsn: 60n, ordinal: 0 } },
    { ...named, schema: older, at: { commitLsn: 50n, ordinal: 0 } },
  ]);
  for (const left of [[], [1]]) {
    const tables = new KnownTables({ capture: CAPTURE, history, left, warn: () => undefined });
    tables.begin([], 100n);
    const reader = tables.find("public", "t");
    expect(typeof reader === "object" ? reader.relation.oid : reader).toBe(2);
  }
});

test("where a slot was lost, a table that is not there is dropped, though it was known to have left", () => {
  const history = new SchemaHistory([{ kind: "schema", schema: TABLE, at: { commitLsn: 50n, ordinal: 0 }, rewritten: false }]);
  const newsOf = (there: readonly number[]) => {
    const tables = new KnownTables({ capture: CAPTURE, history, left: [TABLE.oid], warn: () => undefined });
    return tables.beginAnew([], 100n, new Set(there), false).map(({ kind }) => kind);
  };
  expect(newsOf([])).toEqual(["dropped"]);
  expect(newsOf([TABLE.oid])).toEqual([]);
});
