import { afterEach, describe, expect, test } from "bun:test";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { deadLettersTopic } from "@cascade/shared/topic";
import { readDeadLetters } from "../src/kafka/dead-letter-reader.ts";
import type { ReadLetter } from "../src/letter-pile.ts";
import { cleanUpAll, see } from "./consumer-lab.ts";
import { isMysql, REPLICA_KINDS, type ReplicaKind } from "./replica-labs.ts";
import { type Router, type RoutingLab, routingLab } from "./routing-lab.ts";
import { changed } from "./table-changer.ts";

/** A whole router with ROUTER_ON_ERROR=dead-letter, a real Kafka and a real replica whose table refuses some rows. */

afterEach(cleanUpAll);

const sick = tableSchema("t", { id: "integer", a: "text" });
const other = changed(tableSchema("other", { id: "integer", a: "text" }), { oid: 17_500 });
const env = { ROUTER_ON_ERROR: "dead-letter" };

interface Told {
  readonly state: string;
  readonly heldKeys: number;
}
const told = (router: Router, table: string): Told | undefined => {
  const { tables } = router.status() as { readonly tables: readonly (Told & { readonly table: string })[] };
  return tables.find((one) => one.table === table);
};

async function sickLab(kind: ReplicaKind): Promise<RoutingLab> {
  const l = await routingLab(kind);
  const { replica } = l;
  if (kind === "duckdb") await replica.sql("CREATE SCHEMA IF NOT EXISTS public");
  const id = isMysql(kind) ? "INT" : "INTEGER";
  await replica.sql(
    `CREATE TABLE ${replica.nameOf(sick)} (id ${id} NOT NULL PRIMARY KEY, a ${replica.textType} CHECK (length(a) < 5))`,
  );
  await l.announce(sick, 1n);
  await l.announce(other, 1n);
  return l;
}

async function lettersOf({ kafka: { brokers, prefix } }: RoutingLab): Promise<readonly ReadLetter[]> {
  const logger = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };
  const kafka = { brokers: brokers.split(","), clientId: "test", ssl: null, sasl: null, logger };
  const letters: ReadLetter[] = [];
  await readDeadLetters({ kafka, prefix, replica: "mine" }, (letter) => void letters.push(letter));
  return letters;
}

describe.each(REPLICA_KINDS)("a router of %s", (kind) => {
  test("leads its replica past a refused row, knows what it holds after a restart, and forgets it with the table", async () => {
    const l = await sickLab(kind);
    const first = l.router(env);
    await l.publish(sick, { at: 2n, after: { id: 1, a: "good" } }, { at: 3n, after: { id: 2, a: "too long" } });
    await l.publish(other, { at: 4n, after: { id: 1, a: "too long here" } });
    await see(() => told(first, "public.t")?.heldKeys === 1, 15_000);
    await first.stop();
    expect(first.lines.filter((line) => line.startsWith("error"))).toEqual([expect.stringContaining("CONSTRAINT_VIOLATED")]);
    expect(first.lines.join()).not.toContain("too long");

    const router = l.router({ ...env, ROUTER_ON_ERROR: "stop" });
    await l.publish(sick, { at: 5n, op: "u", after: { id: 2, a: "ok" } }, { at: 6n, after: { id: 3, a: "good" } });
    await see(async () => (await l.replica.rows(sick)).length === 2, 15_000);
    expect(told(router, "public.t")).toMatchObject({ state: "keys-held", heldKeys: 1 });
    expect(told(router, "public.other")).toMatchObject({ state: "live", heldKeys: 0 });
    expect((await lettersOf(l)).map(({ position }) => position.commitLsn)).toEqual([3n, 5n]);

    await l.dropped(sick, 7n);
    await see(() => (told(router, "public.t")?.heldKeys ?? 0) === 0, 15_000);
    await l.publish(other, { at: 8n, after: { id: 2, a: "x" } });
    await see(async () => (await l.replica.rows(other)).length === 2, 15_000);
    expect(router.lines.filter((line) => line.startsWith("life"))).toEqual([]);
  }, 60_000);
});

test("a topic for dead letters that cannot be written stops the table alone", async () => {
  const l = await sickLab("sqlite");
  const topic = deadLettersTopic(l.kafka.prefix, "mine");
  await l.kafka.createTopic(topic, { settings: { "max.message.bytes": "100" } });
  const router = l.router(env);
  await l.publish(sick, { at: 2n, after: { id: 1, a: "too long" } });
  await see(() => told(router, "public.t")?.state === "held", 15_000);
  expect(JSON.stringify(router.status())).toContain("KAFKA_MESSAGE_TOO_LARGE");
  await l.publish(other, { at: 3n, after: { id: 1, a: "x" } });
  await see(async () => (await l.replica.rows(other)).length === 1, 15_000);
  expect(router.lines.filter((line) => line.startsWith("life"))).toEqual([]);
}, 60_000);
