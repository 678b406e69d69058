import { expect, test } from "bun:test";
import { CascadeError } from "@cascade/shared/errors";
import { JsonBytes } from "@cascade/shared/json-bytes";
import { identifySchema, type ReplicaIdentity } from "@cascade/shared/table-schema";
import fc from "fast-check";
import { type CapturedTable, type LostNumbers, TableDecoder } from "./table-decoder.ts";
import { parseTimestamp, type WalMessage, WalReader, type WalRow } from "./wal2json.ts";

const column = (name: string, attnum: number, type: string, typeOid: number, nullable = true) => ({
  name,
  attnum,
  type,
  typeOid,
  typmod: -1,
  nullable,
  default: null,
  generated: false,
});

function captured(identity: ReplicaIdentity = "default", key: readonly string[] = ["id"]): CapturedTable {
  const columns = [
    column("id", 1, "integer", 23, false),
    column('odd "name"', 2, "text", 25),
    column("big", 4, "bigint", 20),
    column("price", 5, "numeric(10,2)", 1700, false),
    column("blob", 6, "bytea", 17),
    column("ok", 7, "boolean", 16),
    column("part", 8, "integer", 23),
  ];
  const schema = identifySchema({ schema: "lab", table: "o", oid: 16400, columns, key, identity });
  // The last column is a domain over integer whose OID, past 2^31, the plugin prints as a negative number.
  const declaredTypeOids = [23, 25, 20, 1700, 17, 16, 4_294_967_000];
  const walColumns = columns.map(({ name }, at) => ({ name, declaredTypeOid: declaredTypeOids[at] as number }));
  return { schema, topic: "cascade.lab.o", walColumns };
}

const OIDS: Readonly<Record<string, number>> = { id: 23, 'odd "name"': 25, big: 20, price: 1700, blob: 17, ok: 16, part: -296 };
const list = (values: Readonly<Record<string, string>>) =>
  Object.entries(values)
    .map(([name, value]) => `{"name":${JSON.stringify(name)},"typeoid":${OIDS[name] ?? 25},"value":${value}}`)
    .join(",");

function line(action: string, columns?: Readonly<Record<string, string>>, identity?: Readonly<Record<string, string>>): string {
  const head = `{"action":"${action}","xid":830,"timestamp":"2026-11-22 13:07:56.163379+00","lsn":"0/1618DB8","schema":"lab","table":"o"`;
  return `${head}${columns ? `,"columns":[${list(columns)}]` : ""}${identity ? `,"identity":[${list(identity)}]` : ""}}`;
}

/** Between other messages, as it comes. */
function readWalMessage(text: string): WalMessage {
  const json = Buffer.from(text);
  const bytes = Buffer.concat([Buffer.from('{"value":"before'), json, Buffer.from('"},"after":"\\""}')]);
  return new WalReader().read(new JsonBytes(bytes, 16, 16 + json.length));
}

const decodeAll = (table: CapturedTable, text: string, losesNumbers: boolean) =>
  new TableDecoder(table, losesNumbers).decode(readWalMessage(text) as WalRow);

interface Texts {
  readonly key: string | null;
  readonly before: string | null;
  readonly after: string | null;
}

const textOf = (json: JsonBytes | null): string | null => (json === null ? null : String(json));

function decode(table: CapturedTable, text: string, losesNumbers = true): Texts | null {
  const row = decodeAll(table, text, losesNumbers);
  return row === null ? null : { key: textOf(row.key), before: textOf(row.before), after: textOf(row.after) };
}
const full = {
  id: "11",
  'odd "name"': '"a, \\"b\\"}"',
  big: "9223372036854775807",
  price: "4.00",
  blob: '"00ff41"',
  ok: "true",
  part: '"5"',
};

function errorOf(act: () => unknown): CascadeError {
  try {
    act();
  } catch (error) {
    if (error instanceof CascadeError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

test("begin and commit carry the transaction's id, time and both ends of its commit record", () => {
  const pair = '"xid":771,"timestamp":"2026-11-22 13:07:56.163379+00","lsn":"0/15B9E10","nextlsn":"0/15B9E40"}';
  expect(readWalMessage(`{"action":"B",${pair}`)).toEqual({
    action: "B",
    txId: 771,
    commitLsn: 0x15b9e10n,
    committedAtMs: Date.UTC(2026, 10, 22, 13, 7, 56, 163),
  });
  expect(readWalMessage(`{"action":"C",${pair}`)).toEqual({ action: "C", endLsn: 0x15b9e40n });
});

test("commit times are read without the fraction, with a short one and past year 9999; other forms are refused", () => {
  expect(parseTimestamp("2026-11-22 13:07:56+00")).toBe(Date.UTC(2026, 10, 22, 13, 7, 56));
  expect(parseTimestamp("2026-11-22 13:07:56.5+00")).toBe(Date.UTC(2026, 10, 22, 13, 7, 56, 500));
  expect(parseTimestamp("10000-01-01 00:00:00+00")).toBe(Date.UTC(10000, 0, 1));
  expect(errorOf(() => parseTimestamp("2026-11-22 14:07:56+01")).code).toBe("UNKNOWN_WAL_MESSAGE");
});

test("an insert becomes wire JSON without a digit lost", () => {
  expect(decode(captured(), line("I", full))).toEqual({
    key: '{"id":11}',
    before: null,
    after: '{"id":11,"odd \\"name\\"":"a, \\"b\\"}","big":"9223372036854775807","price":"4.00","blob":"AP9B","ok":true,"part":5}',
  });
});

test("an update keeps an unchanged TOAST column absent, unless the old row has it", () => {
  const sent = { id: "12", price: "1.50" };
  expect(decode(captured(), line("U", sent, { id: "11" }))).toEqual({
    key: '{"id":12}',
    before: '{"id":11}',
    after: '{"id":12,"price":"1.50"}',
  });
  const row = decode(captured("full"), line("U", sent, full));
  expect(JSON.parse(row?.after ?? "")).toEqual({
    id: 12,
    'odd "name"': 'a, "b"}',
    big: "9223372036854775807",
    price: "1.50",
    blob: "AP9B",
    ok: true,
    part: 5,
  });
});

test("an update takes a key that is stored out of line, and unchanged, from the old row", () => {
  expect(decode(captured("default", ["big", "id"]), line("U", { id: "11", price: "1.50" }, { id: "11", big: full.big }))).toEqual(
    {
      key: '{"big":"9223372036854775807","id":11}',
      before: '{"id":11,"big":"9223372036854775807"}',
      after: '{"id":11,"big":"9223372036854775807","price":"1.50"}',
    },
  );
});

test("a delete carries the old key, a truncate nothing, a table without key no key", () => {
  expect(decode(captured(), line("D", undefined, { id: "9" }))).toEqual({ key: '{"id":9}', before: '{"id":9}', after: null });
  expect(decode(captured(), line("T"))).toEqual({ key: null, before: null, after: null });
  const keyless = decode(captured("full", []), line("D", undefined, { ...full, ok: "null" }));
  expect(keyless).toMatchObject({ key: null, after: null });
  expect(JSON.parse(keyless?.before ?? "")).toMatchObject({ id: 11, price: "4.00", ok: null });
});

test("a composite key is written in index order", () => {
  expect(decode(captured("default", ["big", "id"]), line("I", full))?.key).toBe('{"big":"9223372036854775807","id":11}');
});

test("an OID past 2^31 is known as wal2json 2.7 prints it too, and whichever a decoder has met before", () => {
  const signed = line("I", { id: "1", 'odd "name"': '"x"', big: "2", price: "3.5", blob: "null", ok: "true", part: "4" });
  const unsigned = signed.replace('"typeoid":-296', '"typeoid":4294967000');
  const decoder = new TableDecoder(captured(), false);
  const afters = [signed, unsigned, unsigned, signed].map((text) =>
    String(decoder.decode(readWalMessage(text) as WalRow)?.after),
  );
  expect(new Set(afters).size).toBe(1);
  expect(afters[0]).toContain('"part":4');
  expect(decoder.decode(readWalMessage(signed.replace('"typeoid":-296', '"typeoid":-297')) as WalRow)).toBeNull();
});

test("a column that the schema does not have asks for the catalog, wherever it stands", () => {
  expect(decode(captured(), line("I", { id: "1", added: '"x"' }))).toBeNull();
  expect(decode(captured(), line("I", { added: '"x"', id: "1" }))).toBeNull();
  expect(decode(captured(), line("U", { id: "1" }, { renamed: "1" }))).toBeNull();
  expect(decode(captured(), line("I", { id: "1" }).replace('"typeoid":23', '"typeoid":20'))).toBeNull();
});

test("an insert, or an old row without key, that lacks a column asks for the catalog", () => {
  const { ok: _ok, ...lacking } = full;
  expect(decode(captured(), line("I", lacking))).toBeNull();
  expect(decode(captured("full", []), line("D", undefined, lacking))).toBeNull();
  expect(decode(captured("full", []), line("U", full, lacking))).toBeNull();
});

test("a key that has changed asks for the catalog", () => {
  expect(decode(captured("default", ["big"]), line("D", undefined, { id: "9" }))).toBeNull();
  expect(decode(captured("default", ["big"]), line("U", full, { id: "9" }))).toBeNull();
});

test("a partition with its columns in another order is read by its own", () => {
  const table = captured();
  const walColumns = [...table.walColumns].reverse();
  const row = decode({ ...table, walColumns }, line("U", { big: "7", id: "1" }, { id: "1" }));
  expect(row).toEqual({ key: '{"id":1}', before: '{"id":1}', after: '{"big":"7","id":1}' });
});

test("the numbers of wal2json 2.6, quoted all, read like those of 2.5", () => {
  const quoted = { ...full, id: '"11"', big: '"9223372036854775807"', price: '"NaN"' };
  expect(JSON.parse(decode(captured(), line("I", quoted))?.after ?? "")).toMatchObject({
    id: 11,
    big: "9223372036854775807",
    price: "NaN",
  });
});

test("a null that may be a lost number is noted, in whatever order the columns come, and can be put back", () => {
  const table = captured();
  const lossy = { ...full, price: "null", big: "null" };
  for (const of of [table, { ...table, walColumns: [...table.walColumns].reverse() }]) {
    const columns = of === table ? lossy : Object.fromEntries(Object.entries(lossy).reverse());
    const row = decodeAll(of, line("I", columns), true);
    const after = String(row?.after);
    expect(JSON.parse(after)).toMatchObject({ big: null, price: null });
    const lost = row?.lost as LostNumbers;
    expect(lost.decoder.lostColumns(lost).map(({ name }) => name)).toEqual(["price"]);
    expect(lost.decoder.restored(lost, ['"NaN"'])).toBe(after.replace('"price":null', '"price":"NaN"'));
  }
  const update = decodeAll(table, line("U", { id: "11", price: "null" }, { id: "11" }), true);
  expect(update?.lost?.at).toEqual([3]);
});

test("a null is NULL where nothing is lost: with wal2json 2.6, of another type, of a domain", () => {
  expect(decodeAll(captured(), line("I", { ...full, price: "null" }), false)?.lost).toBeNull();
  expect(decodeAll(captured(), line("I", { ...full, big: "null" }), true)?.lost).toBeNull();
  const table = captured();
  const walColumns = table.walColumns.map((column) => (column.name === "price" ? { ...column, declaredTypeOid: 20000 } : column));
  const text = line("I", { ...full, price: "null" }).replace('"typeoid":1700', '"typeoid":20000');
  expect(decodeAll({ ...table, walColumns }, text, true)?.lost).toBeNull();
});

test("a lost number of the old row is left unsaid, but where the row is all that tells it", () => {
  const old = { ...full, price: "null" };
  const row = decodeAll(captured("full"), line("U", { id: "12", price: "1.50" }, old), true);
  expect(JSON.parse(String(row?.before))).not.toHaveProperty("price");
  expect([JSON.parse(String(row?.after)).price, row?.lost]).toEqual(["1.50", null]);
  expect(JSON.parse(decode(captured("full", []), line("D", undefined, old))?.before ?? "")).toHaveProperty("price", null);
  expect(JSON.parse(decode(captured("full"), line("D", undefined, old), false)?.before ?? "")).toHaveProperty("price", null);
});

test("a lost number of the key is refused: nobody knows which row it is", () => {
  const { code, message } = errorOf(() => decode(captured("default", ["price"]), line("I", { ...full, price: "null" })));
  expect(code).toBe("SPECIAL_NUMBER_LOST");
  expect(message).toContain("lab.o: column price of its key");
});

test("an update without its key, as wal2json writes one now and then while its table is altered, is read again", () => {
  const { code, verdict, message } = errorOf(() => decode(captured(), line("U", full)));
  expect([code, verdict]).toEqual(["KEY_UNREAD", "retry"]);
  expect(message).toContain("an update of lab.o came without its key");
});

test.each([
  "",
  "{}",
  '{"action":"X"}',
  '{"action":"B","xid":1}',
  '{"action":"I","schema":"a"}',
  "secret",
  `${line("I", full).slice(0, -3)}`,
])("%p is refused, its values unsaid", (text) => {
  const error = errorOf(() => decode(captured(), text));
  expect({ code: error.code, verdict: error.verdict }).toEqual({ code: "UNKNOWN_WAL_MESSAGE", verdict: "fatal" });
  expect(error.message).not.toContain("secret");
});

test("any text survives, however it looks like wal2json itself", () => {
  const tricky = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom('"identity":[', '\\"}],"identity":[{', "\\", '","value":1}'),
  );
  fc.assert(
    fc.property(tricky, fc.boolean(), (value, asIdentity) => {
      const text = JSON.stringify(value);
      const row = asIdentity
        ? decode(captured("full", []), line("D", undefined, { ...full, 'odd "name"': text }))
        : decode(captured("full"), line("U", { ...full, 'odd "name"': text }, { id: "1", 'odd "name"': text }));
      expect(JSON.parse((asIdentity ? row?.before : row?.after) ?? "")['odd "name"']).toBe(value);
    }),
  );
});
