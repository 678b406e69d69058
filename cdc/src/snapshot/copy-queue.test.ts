import { expect, test } from "bun:test";
import { FewAtOnce } from "@cascade/shared/few-at-once";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import { Copies } from "./copies.ts";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { CopyQueue } from "./copy-queue.ts";

const schemaOf = (oid: number, key: readonly string[] = ["id"]): TableSchema =>
  identifySchema({
    ...{ schema: "public", table: `t${oid}`, oid, key, identity: "default" },
    columns: [columnSchema("id", "integer", { attnum: 1, nullable: false })],
  });

function queueOf(sizes: readonly number[]) {
  const copies = new Copies(() => undefined);
  const queue = new CopyQueue(copies);
  const add = (oid: number, request: string = INITIAL) =>
    copies.add({ request, oid, name: schemaOf(oid), replica: null, range: WHOLE }, WAITING, schemaOf(oid));
  for (const [oid, bytes] of sizes.entries()) {
    queue.size({ schema: schemaOf(oid), bytes, estimatedRows: null });
    add(oid);
  }
  return { copies, queue, add };
}

test("small tables are copied many at once, the smallest first, and a large one alone", () => {
  const { copies, queue } = queueOf([1e9, ...Array.from({ length: 30 }, (_, n) => 8192 * (n % 3))]);
  const begun: (() => void)[] = [];
  for (let copy = queue.next(); copy !== null; copy = queue.next()) {
    expect(copy.job.oid).not.toBe(0);
    const end = queue.begin(copy);
    begun.push(() => {
      copies.remove(copy);
      end();
    });
  }
  expect(begun.length).toBeGreaterThan(4);
  expect(begun.length).toBeLessThan(20);
  for (const end of begun.splice(0)) end();
  for (let copy = queue.next(); copy?.job.oid !== 0; copy = queue.next()) {
    if (copy === null) throw new Error("none is begun, and none is under way");
    copies.remove(copy);
  }
  const large = queue.next();
  const end = queue.begin(large as NonNullable<typeof large>);
  expect(queue.next()).toBeNull();
  end();
  expect(queue.next()).toBe(large);
});

test("two copies of one table are never under way at once, and who asked does not wait behind tables that nobody waits for", () => {
  const { queue, add } = queueOf([0, 0, 0]);
  const first = queue.next();
  if (first === null) throw new Error("nothing to begin");
  const end = queue.begin(first);
  const asked = add(first.job.oid, "asked");
  expect(queue.next()).not.toBe(asked);
  end();
  expect(queue.next()).toBe(asked);
});

test("turns are taken one after the other, whatever becomes of them", async () => {
  const turns = new FewAtOnce(1);
  const done: string[] = [];
  const work = (name: string, fails: boolean) => async () => {
    done.push(`${name} begins`);
    await Bun.sleep(1);
    done.push(`${name} ends`);
    if (fails) throw new Error(name);
  };
  const all = [turns.run(work("a", true)), turns.run(work("b", false))];
  expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
  expect(done).toEqual(["a begins", "a ends", "b begins", "b ends"]);
});
