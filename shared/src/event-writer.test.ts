import { expect, test } from "bun:test";
import fc from "fast-check";
import type { CapturedRow, ChangeEvent, EventTable, EventTransaction } from "./change-event.ts";
import { EventWriter } from "./event-writer.ts";
import { JsonBytes } from "./json-bytes.ts";

const text = fc.string({ unit: "binary", maxLength: 30 }).map((it) => it.toWellFormed());
/** Around where short bytes are copied one by one, and where a text of it gets longer. */
const length = fc.oneof(fc.nat(70), fc.constantFrom(23, 24, 25, 255, 256, 4_000));
const rowText = fc
  .tuple(length, fc.constantFrom("a", "é", "😀", '"', "\\"))
  .map(([count, character]) => JSON.stringify({ v: character.repeat(count) }));
/** Between bytes of others. */
const within = (json: string): JsonBytes => {
  const bytes = Buffer.from(`{"v":${json}}`);
  return new JsonBytes(bytes, 5, bytes.length - 1);
};
const row: fc.Arbitrary<CapturedRow | null> = fc.oneof(fc.constant(null), rowText, rowText.map(within));

const AT_BOUNDS = [0, 9, 10, 99, 100, 2 ** 32, 10 ** 15 - 1, 10 ** 15, Number.MAX_SAFE_INTEGER];
const count = fc.oneof(fc.constantFrom(...AT_BOUNDS), fc.maxSafeNat());
const lsn = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.bigInt({ min: 2n ** 53n - 100n, max: 2n ** 53n + 100n }),
  count.map(BigInt),
);
const table: fc.Arbitrary<EventTable> = fc.record(
  {
    ...{ schema: text, table: text, topic: fc.constant("t"), schemaId: fc.constantFrom("0123456789abcdef", "f".repeat(400)) },
    ...{
      filling: fc.constant(true as const),
      fillingFor: text,
      replica: text,
      notReplica: text,
      snapshotId: text,
      movedFrom: fc.nat(),
      movedTo: fc.nat(),
    },
  },
  { requiredKeys: ["schema", "table", "topic", "schemaId"] },
);
const transaction: fc.Arbitrary<EventTransaction> = fc.record({
  txId: count,
  commitLsn: lsn,
  committedAtMs: fc.maxSafeInteger(),
});
/** Of few tables and transactions, so that they take turns. */
const events = fc
  .tuple(fc.array(table, { minLength: 1, maxLength: 3 }), fc.array(transaction, { minLength: 1, maxLength: 3 }))
  .chain(([tables, transactions]) =>
    fc.array(
      fc.record<ChangeEvent>({
        op: fc.constantFrom("c", "u", "d", "t", "r"),
        table: fc.constantFrom(...tables),
        transaction: fc.constantFrom(...transactions),
        ...{ ordinal: count, lsn, key: row, before: row, after: row },
      }),
      { minLength: 1, maxLength: 20 },
    ),
  );

/** The wire format, by hand (contract.md §3). */
function reference(event: ChangeEvent, name: string, db: string, capturedAtMs: number): string {
  const { op, table: of, transaction: within, ordinal, before, after } = event;
  const { filling, fillingFor, replica, notReplica, snapshotId, movedFrom, movedTo } = of;
  const marks = JSON.stringify({
    ...{ schema_id: of.schemaId, filling, filling_for: fillingFor, replica, not_replica: notReplica, snapshot_id: snapshotId },
    ...{ moved_from: movedFrom, moved_to: movedTo },
  });
  const about = JSON.stringify({ version: "1.0.0", connector: "cascade", name, db, schema: of.schema, table: of.table });
  const place = `"txId":${within.txId},"lsn":${event.lsn},"ts_ms":${within.committedAtMs},"snapshot":"${op === "r"}","commit_lsn":${within.commitLsn},"ordinal":${ordinal}`;
  return `{"op":"${op}","before":${before ?? "null"},"after":${after ?? "null"},"source":${about.slice(0, -1)},${place},${marks.slice(1)},"ts_ms":${capturedAtMs}}`;
}

const UNTOUCHED = 0xaa;

test("an event is the wire format's text, in as many bytes as were told before, and none beside them", () => {
  fc.assert(
    fc.property(text, text, count, fc.nat(40), events, (name, db, capturedAtMs, at, written) => {
      const writer = new EventWriter(name, db);
      // All sizes first, as the publisher asks for them: another event was the last one then.
      const sizes = written.map((event) => writer.sizeOf(event, capturedAtMs));
      for (const [i, event] of written.entries()) {
        const size = sizes[i] as number;
        const bytes = Buffer.alloc(at + size + 40, UNTOUCHED);
        expect(writer.write(event, capturedAtMs, bytes, at)).toBe(at + size);
        expect(bytes.toString("utf8", at, at + size)).toBe(reference(event, name, db, capturedAtMs));
        for (const beside of [bytes.subarray(0, at), bytes.subarray(at + size)])
          expect(beside.every((byte) => byte === UNTOUCHED)).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});
