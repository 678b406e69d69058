import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { spawnChild } from "@cascade/local/child.ts";
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

/** DuckDB does not alter a table that has constraints, nor let another process have its file. */
test.each(REPLICA_KINDS.filter((kind) => kind !== "duckdb"))(
  "%s: what is held stays held under the table's next name, and is replayed from both topics",
  async (kind) => {
    const l = await sickLab(kind);
    const { replica, kafka } = l;
    const router = l.router(env);
    await l.publish(sick, { at: 2n, after: { id: 1, a: "good" } }, { at: 3n, after: { id: 2, a: "too long" } });
    await see(() => told(router, "public.t")?.heldKeys === 1, 15_000);
    const renamed = changed(sick, { table: "u" });
    await l.announce(renamed, 5n);
    await l.publish(renamed, { at: 6n, op: "u", after: { id: 2, a: "ok" } }, { at: 7n, after: { id: 3, a: "good" } });
    const ids = async () => (await replica.rows(renamed).catch(() => [])).map(({ id }) => Number(id)).toSorted();
    await see(async () => (await ids()).includes(3), 20_000);
    expect(await ids()).toEqual([1, 3]);
    expect((await lettersOf(l)).map(({ partition }) => partition.topic.split(".").at(-1))).toEqual(["t", "u"]);
    await l.publish(
      renamed,
      { at: 8n, op: "u", before: { id: 2 }, after: { id: 4, a: "ok" } },
      { at: 9n, after: { id: 5, a: "x" } },
    );
    await see(async () => (await ids()).includes(5), 20_000);
    expect(await ids()).toEqual([1, 3, 5]);

    const name = replica.nameOf(renamed);
    const swap = `CREATE TABLE s AS SELECT * FROM ${name}; DROP TABLE ${name}; CREATE TABLE ${name} (id INTEGER NOT NULL PRIMARY KEY, a ${replica.textType})`;
    await replica.sql(
      `${kind === "sqlite" ? "BEGIN IMMEDIATE;" : ""} ${swap}; INSERT INTO ${name} SELECT * FROM s; DROP TABLE s`,
    );
    if (kind === "sqlite") await replica.sql("COMMIT");
    const command = spawnChild([process.execPath, join(import.meta.dir, "../src/dead-letters-command.ts"), "replay"], {
      env: {
        ...process.env,
        ...{ KAFKA_BROKERS: kafka.brokers, KAFKA_TOPIC_PREFIX: kafka.prefix, REPLICA_URL: replica.url, REPLICA_NAME: "mine" },
      },
    });
    expect([(await command.exited).code, command.log()]).toEqual([0, expect.stringContaining("2 keys released")]);
    expect(await ids()).toEqual([1, 3, 4, 5]);
    expect(router.lines.filter((line) => line.startsWith("life"))).toEqual([]);
  },
  60_000,
);

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
