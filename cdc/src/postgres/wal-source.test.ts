import { expect, test } from "bun:test";
import { EventEmitter } from "node:events";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type { TableName } from "@cascade/shared/topic";
import fc from "fast-check";
import type pg from "pg";
import type { SourceMessage } from "../change-source.ts";
import { ChangeDecoder } from "./change-decoder.ts";
import type { Relation } from "./relation.ts";
import { XLOG_DATA_HEADER_BYTES } from "./replication-protocol.ts";
import { WalSource } from "./wal-source.ts";

/** A walsender's connection, whose buffer is another message's after each: as pg's is. */
class Walsender extends EventEmitter {
  readonly #buffer = Buffer.alloc(256 * 1024);
  #end: () => void = () => undefined;
  readonly stream = { pause: () => undefined, resume: () => undefined };
  readonly client = {
    connection: this,
    query: () =>
      new Promise<void>((resolve) => {
        this.#end = resolve;
        setImmediate(() => this.emit("replicationStart"));
      }),
    end: async () => undefined,
  } as unknown as pg.Client;

  /** What was told as confirmed. */
  readonly told: bigint[] = [];

  sendCopyFromChunk(status: Buffer): void {
    this.told.push(status.readBigUInt64BE(9));
  }
  endCopyFrom(): void {
    this.#end();
  }

  send(text: string): void {
    const end = XLOG_DATA_HEADER_BYTES + this.#buffer.write(text, XLOG_DATA_HEADER_BYTES);
    this.#buffer[0] = 0x77;
    this.emit("copyData", { chunk: this.#buffer.subarray(0, end) });
    this.#buffer.fill("]", 0, end);
  }
}

function relationOf(name: TableName): Relation {
  const schema = { ...tableSchema(name.table, { id: "integer", v: "text" }), oid: 16_400 + name.table.length };
  const walColumns = schema.columns.map((column) => ({ name: column.name, declaredTypeOid: column.typeOid }));
  return { oid: schema.oid, name, kind: "table", topic: `app.${name.table}`, schema, walColumns, identityColumns: ["id"] };
}

/** @param lookMs how long the catalog takes to tell of a table that is met first */
function open(walsender: Walsender, lookMs: number, maxMessages = 20_000): Promise<WalSource> {
  const relation = async (name: TableName) => {
    await Bun.sleep(lookMs);
    return relationOf(name);
  };
  const capture = { filter: parseTableFilter("public.*"), prefix: "app" };
  const catalog = { capture, fingerprint: async () => "", relation };
  const decoder = new ChangeDecoder({ catalog, warn: () => undefined, losesNumbers: false });
  const given = { client: walsender.client, slot: "s", pluginOptions: {}, decoder, from: 1n };
  return WalSource.open({ ...given, maxMessages, lingerMs: 0, advance: async () => undefined });
}

const TIME = '"timestamp":"2026-11-28 10:00:00+00"';
const begin = (tx: number) => `{"action":"B","xid":${tx},${TIME},"lsn":"0/${tx}0","nextlsn":"0/${tx}8"}`;
const commit = (tx: number) => `{"action":"C","xid":${tx},${TIME},"lsn":"0/${tx}0","nextlsn":"0/${tx}8"}`;
const row = (tx: number, id: number, table: string, v: string) =>
  `{"action":"I","xid":${tx},${TIME},"lsn":"0/1","schema":"public","table":"${table}","columns":[{"name":"id","typeoid":23,"value":${id}},{"name":"v","typeoid":25,"value":"${v}"}]}`;
/** What is to be made of that row. */
const told = (tx: number, ordinal: number, id: number, table: string, v: string) =>
  `${table} ${tx}0 ${ordinal} {"id":${id},"v":"${v}"}`;

const tell = (messages: readonly SourceMessage[]): readonly string[] =>
  messages.flatMap((message) => {
    if (message.kind !== "change") return [];
    const { table, transaction, ordinal, after } = message.event;
    return [`${table.table} ${transaction.commitLsn.toString(16)} ${ordinal} ${after}`];
  });

const transaction = fc.record({
  rows: fc.oneof(fc.nat(20), fc.integer({ min: 900, max: 2_500 })),
  length: fc.constantFrom(0, 10, 500),
  table: fc.constantFrom("t", "tt", "ttt"),
  pauseMs: fc.constantFrom(null, null, 0, 2),
});

test("what the stream brings is handed over once and in order, however it is decoded ahead, and then what cannot be decoded is thrown", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(transaction, { minLength: 1, maxLength: 12 }),
      fc.constantFrom(0, 3),
      fc.constantFrom(100, 1_000, 20_000),
      async (transactions, consumerMs, maxMessages) => {
        const walsender = new Walsender();
        await using source = await open(walsender, 1, maxMessages);
        const expected: string[] = [];
        const feed = async () => {
          for (const [at, { rows, length, table, pauseMs }] of transactions.entries()) {
            const tx = at + 1;
            walsender.send(begin(tx));
            for (let i = 0; i < rows; i++) {
              const v = String(i).padEnd(length, "x");
              walsender.send(row(tx, i, table, v));
              expected.push(told(tx, i, i, table, v));
              if (i % 700 === 699) await Bun.sleep(0);
            }
            walsender.send(commit(tx));
            if (pauseMs !== null) await Bun.sleep(pauseMs);
          }
          walsender.send('{"action":"?"}');
          // And nothing of what comes behind it.
          for (let i = 0; i < 1_000; i++)
            for (const text of [begin(99), row(99, i, "t", "behind"), commit(99)]) walsender.send(text);
        };
        const feeding = feed();
        const seen: string[] = [];
        const read = async () => {
          for await (const messages of source.messages(new AbortController().signal)) {
            if (consumerMs > 0) await Bun.sleep(consumerMs);
            seen.push(...tell(messages));
          }
        };
        await expect(read()).rejects.toMatchObject({ code: "UNKNOWN_WAL_MESSAGE" });
        await feeding;
        expect(seen).toEqual(expected);
      },
    ),
    { numRuns: 40 },
  );
});

test("whoever reads on after another has stopped in a delivery gets every row in its own transaction", async () => {
  const walsender = new Walsender();
  await using source = await open(walsender, 20);
  walsender.send(begin(1));
  walsender.send(row(1, 0, "t", ""));
  for await (const messages of source.messages(new AbortController().signal)) if (tell(messages).length > 0) break;
  const expected = [told(1, 1, 1, "tt", "")];
  walsender.send(row(1, 1, "tt", "")); // the catalog is asked for its table
  setTimeout(() => {
    walsender.send(commit(1));
    walsender.send(begin(2));
    for (let i = 0; i < 1_500; i++) {
      walsender.send(row(2, i, "t", ""));
      expected.push(told(2, i, i, "t", ""));
    }
  }, 5);
  const seen: string[] = [];
  for await (const messages of source.messages(new AbortController().signal)) {
    seen.push(...tell(messages));
    if (seen.length > 1_500) break;
  }
  expect(seen).toEqual(expected);
});

test("what is confirmed is told at once after a pause, in few statuses under load, the last one soon, and when it ends", async () => {
  const walsender = new Walsender();
  const source = await open(walsender, 0);
  source.confirm(2n);
  expect(walsender.told).toEqual([2n]);
  for (let lsn = 3n; lsn <= 500n; lsn++) source.confirm(lsn);
  expect(walsender.told).toEqual([2n]);
  await Bun.sleep(200);
  expect(walsender.told).toEqual([2n, 500n]);
  source.confirm(501n);
  source.confirm(502n);
  await source[Symbol.asyncDispose]();
  expect(walsender.told.at(-1)).toBe(502n);
  const { length } = walsender.told;
  await Bun.sleep(100);
  expect(walsender.told).toHaveLength(length);
});
