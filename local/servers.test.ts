import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startKafka } from "./kafka.ts";
import { kafkaAnswers } from "./kafka-probe.ts";
import { onFreePort, PortTakenError } from "./ports.ts";
import { startPostgres } from "./postgres.ts";
import { renderSettings } from "./postgres-data.ts";
import { processTree } from "./process-table.ts";
import { testKafka, testMariadb, testPostgres } from "./servers.ts";

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "cascade-servers-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("PostgreSQL", () => {
  test("answers, and decodes with wal2json", async () => {
    const postgres = await testPostgres();
    await postgres.createDatabase("decodes");
    await postgres.query("decodes", "SELECT pg_create_logical_replication_slot('local_decodes', 'wal2json')");
    await postgres.query("decodes", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (42)");
    const changes = await postgres.query("decodes", "SELECT data FROM pg_logical_slot_peek_changes('local_decodes', NULL, NULL)");
    expect(JSON.stringify(changes)).toContain("42");
    await postgres.dropDatabase("decodes");
    expect(await postgres.query("postgres", "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'local_decodes'")).toEqual([]);
  });

  test("killed whole and started again it has its data, on the same port", async () => {
    const postgres = await testPostgres();
    await postgres.createDatabase("survives");
    await postgres.query("survives", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    for (const signal of ["SIGKILL", "SIGQUIT", "SIGINT"] as const) {
      const before = processTree(process.pid).length;
      await postgres.kill(signal);
      expect(processTree(process.pid).length).toBeLessThan(before);
      await expect(postgres.query("survives", "SELECT 1")).rejects.toThrow();
      await postgres.start();
      expect(await postgres.query("survives", "SELECT count(*)::int AS rows FROM t")).toEqual([{ rows: 1000 }]);
    }
    await postgres.dropDatabase("survives");
  });

  test("frozen it keeps a query waiting, thawed it answers it", async () => {
    const postgres = await testPostgres();
    postgres.freeze();
    let answered = false;
    const query = postgres.query("postgres", "SELECT 1 AS one").then((rows) => {
      answered = true;
      return rows;
    });
    await Bun.sleep(300);
    expect(answered).toBe(false);
    postgres.thaw();
    expect(await query).toEqual([{ one: 1 }]);
  });

  test("a start that fails shows the server's own words", async () => {
    const dir = join((await testPostgres()).dir, "../fails");
    const starting = startPostgres({ dir, settings: { no_such_setting: "1" }, removeWhenOrphaned: true });
    await expect(starting).rejects.toThrow(/unrecognized configuration parameter "no_such_setting"/);
    rmSync(dir, { recursive: true });
  });

  test("settings may hold quotes", () => {
    expect(renderSettings({ a: "it's" })).toContain("a = 'it''s'\n");
  });
});

describe("Kafka", () => {
  test("answers after a start, after a kill and a start, and not in between", async () => {
    const kafka = await testKafka();
    expect(await kafkaAnswers(kafka.port)).toBe(true);
    await kafka.kill();
    await expect(kafkaAnswers(kafka.port)).rejects.toThrow();
    await kafka.start();
    expect(await kafkaAnswers(kafka.port)).toBe(true);
  });

  test("a start that fails shows the broker's own words, and leaves nothing running", async () => {
    const before = processTree(process.pid).length;
    await expect(startKafka({ dir: join(scratch, "kafka"), properties: { "num.io.threads": "none" } })).rejects.toThrow(
      /num\.io\.threads/,
    );
    expect(processTree(process.pid).length).toBe(before);
  });
});

test("MariaDB, where it is installed, answers and keeps its data over a kill", async () => {
  const mariadb = await testMariadb();
  if (mariadb === null) return;
  // Not in /tmp, where the next server to start deletes it.
  expect((await mariadb.query("mysql", "SELECT @@tmpdir AS folder"))[0]?.["folder"]).toBe(mariadb.dir);
  await mariadb.createDatabase("survives");
  await mariadb.query("survives", "CREATE TABLE t (id int PRIMARY KEY)");
  await mariadb.query("survives", "INSERT INTO t VALUES (1), (2)");
  await mariadb.kill();
  await mariadb.start();
  expect([...(await mariadb.query("survives", "SELECT id FROM t ORDER BY id"))]).toEqual([{ id: 1 }, { id: 2 }]);
});

describe("ports", () => {
  test("a taken one is replaced by another, a wished one is not", async () => {
    const tried: number[] = [];
    const start = async (port: number): Promise<number> => {
      tried.push(port);
      if (tried.length < 3) throw new PortTakenError("taken");
      return port;
    };
    expect(await onFreePort(undefined, start)).toBe(tried[2] ?? 0);
    tried.length = 0;
    await expect(onFreePort(5000, start)).rejects.toThrow(PortTakenError);
  });

  test("a server on a taken port says so", async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as { readonly port: number };
    const dir = join((await testPostgres()).dir, "../taken");
    await expect(startPostgres({ dir, port, removeWhenOrphaned: true })).rejects.toThrow(PortTakenError);
    await expect(startKafka({ dir: join(scratch, "taken"), port })).rejects.toThrow(PortTakenError);
    other.close();
    rmSync(dir, { recursive: true });
  });
});
