import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testReplicaPostgres } from "@cascade/local/servers.ts";
import { CascadeError } from "@cascade/shared/errors";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { openPostgresReplica } from "../src/replicas/postgres.ts";
import { openSqliteReplica } from "../src/replicas/sqlite.ts";
import { applier, event, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** What each engine's failures become: which heal by themselves, which stop a table, which refuse to start. */

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
async function openLab(kind: "postgres" | "sqlite"): Promise<ReplicaLab> {
  const lab = await replicaLab(kind);
  cleanups.push(() => lab.close());
  return lab;
}

const items = tableSchema("items", { id: "integer", v: "text" });
const insert = (id: number) => event("c", null, { id, v: "v" });

async function failure(act: Promise<unknown>): Promise<CascadeError> {
  const error = await act.then(
    () => new Error("nothing was refused"),
    (thrown: unknown) => thrown,
  );
  if (error instanceof CascadeError) return error;
  throw error;
}

describe("PostgreSQL", () => {
  test("a connection that the server ends is worth a retry, and stays ended", async () => {
    const lab = await openLab("postgres");
    const replica = await lab.open();
    const router = await applier(replica, items);
    await router.apply([insert(1)]);
    await lab.sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    for (const act of [() => router.apply([insert(2)]), () => replica.progress(router.partition), () => replica.prepare(items)]) {
      expect(await failure(act())).toMatchObject({ code: "REPLICA_UNAVAILABLE", verdict: "retry" });
    }
    const again = await applier(await lab.open(), items);
    expect(again.progress).toEqual(router.progress);
    await again.apply([insert(2)]);
    expect(await lab.rows(items)).toHaveLength(2);
  });

  test("a server that does not answer is worth a retry", async () => {
    const closed = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
    const { port } = closed;
    closed.stop(true);
    expect(await failure(openPostgresReplica(`postgres://u:p@127.0.0.1:${port}/db`))).toMatchObject({
      code: "REPLICA_UNAVAILABLE",
      verdict: "retry",
    });
  });

  test("a wrong or missing password and a missing database refuse to start, and say nothing of the password", async () => {
    const lab = await openLab("postgres");
    const changed = (change: (url: URL) => void): string => {
      const url = new URL(lab.url);
      change(url);
      return url.href;
    };
    const urls = [
      changed((url) => {
        url.password = "wr0ng";
      }),
      changed((url) => {
        url.password = "";
      }),
      changed((url) => {
        url.pathname = "/no_such_database";
      }),
    ];
    for (const url of urls) {
      const error = await failure(openPostgresReplica(url));
      expect(error).toMatchObject({ code: "REPLICA_LOGIN_REFUSED", verdict: "refuse" });
      expect(error.message + error.advice).not.toContain("wr0ng");
    }
  });

  test("a role that may not switch triggers off hears of it, and once it may, they no longer fire", async () => {
    const lab = await openLab("postgres");
    const server = await testReplicaPostgres();
    const role = `router_${process.pid}`;
    const database = new URL(lab.url).pathname.slice(1);
    await lab.sql(
      `CREATE ROLE ${role} LOGIN PASSWORD 'p'; GRANT CREATE ON DATABASE "${database}" TO ${role}; GRANT CREATE ON SCHEMA public TO ${role}`,
    );
    const url = new URL(server.url(database));
    url.username = role;
    url.password = "p";
    const open = async () => {
      const replica = await openPostgresReplica(url.href);
      cleanups.push(() => replica[Symbol.asyncDispose]());
      return replica;
    };
    // Last: its tables are gone by then, its rights on the database are not.
    cleanups.unshift(() => server.query(database, `DROP OWNED BY ${role}; DROP ROLE ${role}`));
    const limited = await open();
    expect(limited.findings()).toEqual([expect.stringContaining(`GRANT SET ON PARAMETER session_replication_role TO "${role}"`)]);
    const first = await applier(limited, items);
    await lab.sql(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'secret %', NEW.v; END $$;
      CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION refuse()`);
    const error = await failure(first.apply([insert(1)]));
    expect(error).toMatchObject({ code: "REPLICA_FUNCTION_FAILED", verdict: "stop-table" });
    expect(error.message).not.toContain("secret");
    await server.query("postgres", `GRANT SET ON PARAMETER session_replication_role TO ${role}`);
    cleanups.push(() => server.query("postgres", `REVOKE SET ON PARAMETER session_replication_role FROM ${role}`));
    const granted = await open();
    expect(granted.findings()).toEqual([]);
    await (await applier(granted, items)).apply([insert(1)]);
    expect(await lab.rows(items)).toHaveLength(1);
  });

  test("a value that a column of the replica has become too narrow for stops the table, and is not shown", async () => {
    const lab = await openLab("postgres");
    const router = await applier(await lab.open(), items);
    await lab.sql("ALTER TABLE items ALTER COLUMN v TYPE varchar(2); INSERT INTO items VALUES (9, 'x')");
    const error = await failure(router.apply([event("c", null, { id: 1, v: "secret" })]));
    expect(error).toMatchObject({ code: "UNSUPPORTED_VALUE", verdict: "stop-table" });
    expect(error.message).toContain("character varying(2)");
    expect(error.message).not.toContain("secret");
  });

  test("a database of another encoding is a finding, and stops only the table with a character that it lacks", async () => {
    const server = await testReplicaPostgres();
    const name = `latin_${process.pid}`;
    await server.query("postgres", `DROP DATABASE IF EXISTS ${name}`);
    await server.query("postgres", `CREATE DATABASE ${name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
    cleanups.push(() => server.dropDatabase(name));
    const replica = await openPostgresReplica(server.url(name));
    cleanups.push(() => replica[Symbol.asyncDispose]());
    expect(replica.findings()).toEqual([expect.stringContaining("encoded in LATIN1")]);
    const router = await applier(replica, items);
    await router.apply([event("c", null, { id: 1, v: "é" })]);
    const error = await failure(router.apply([event("c", null, { id: 2, v: "😀" })]));
    expect(error).toMatchObject({
      code: "UNSUPPORTED_VALUE",
      verdict: "stop-table",
      advice: expect.stringContaining("ENCODING 'UTF8'"),
    });
    expect(error.message).not.toMatch(/0xf0|😀/);
  });
});

/** A descriptor may be closed again by now. */
function openFile(descriptor: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return "";
  }
}

describe("SQLite", () => {
  const folder = (): string => {
    const made = mkdtempSync(join(tmpdir(), "cascade-sqlite-"));
    cleanups.push(() => rmSync(made, { recursive: true, force: true }));
    return made;
  };

  test("a file that was moved away while it is open is worth a retry: what is written to it nobody sees", async () => {
    const path = join(folder(), "r.db");
    const replica = await openSqliteReplica(path);
    cleanups.push(() => replica[Symbol.asyncDispose]());
    await replica.check();
    renameSync(path, `${path}.old`);
    expect(await failure(replica.check())).toMatchObject({ code: "REPLICA_UNAVAILABLE", verdict: "retry" });
  });

  test("a file that another process has locked is waited for, then worth a retry", async () => {
    const lab = await openLab("sqlite");
    const router = await applier(await lab.open(), items);
    const path = lab.url.slice("sqlite://".length);
    const script = `import { Database } from "bun:sqlite"; const db = new Database(${JSON.stringify(path)}); db.run("BEGIN IMMEDIATE");
      console.log("locked"); for await (const line of console) { db.run("COMMIT"); db.close(); process.exit(0); }`;
    const holder = Bun.spawn([process.execPath, "-e", script], { stdin: "pipe", stdout: "pipe" });
    cleanups.push(() => holder.kill());
    expect(new TextDecoder().decode((await holder.stdout.getReader().read()).value)).toContain("locked");
    expect(await failure(router.apply([insert(1)]))).toMatchObject({ code: "REPLICA_LOCKED", verdict: "retry" });
    expect(await lab.rows(items)).toEqual([]);
    const waiting = openSqliteReplica(path);
    holder.stdin.write("go\n");
    holder.stdin.end();
    const replica = await waiting;
    cleanups.push(() => replica[Symbol.asyncDispose]());
    await (await applier(replica, items)).apply([insert(1)]);
    expect(await lab.rows(items)).toHaveLength(1);
  });

  test("closing waits for the transaction that waits for the lock", async () => {
    const lab = await openLab("sqlite");
    const replica = await lab.open();
    const router = await applier(replica, items);
    await lab.sql("BEGIN IMMEDIATE");
    const waiting = failure(router.apply([insert(1)]));
    await replica[Symbol.asyncDispose]();
    expect(await waiting).toMatchObject({ code: "REPLICA_LOCKED", verdict: "retry" });
  });

  test.skipIf(!existsSync("/proc/self/fd"))(
    "temporary files are beside the replica's: no other folder need be there",
    async () => {
      const inside = folder();
      const path = join(inside, "it's.db");
      const database = new Database(path);
      const replica = await openSqliteReplica(path, { connect: () => database });
      cleanups.push(() => replica[Symbol.asyncDispose]());
      database.run(`CREATE TEMP TABLE large AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
      SELECT i, hex(randomblob(400)) AS v FROM n`);
      const open = readdirSync("/proc/self/fd").map(openFile);
      expect(open.filter((file) => file.startsWith(`${inside}/`) && file.endsWith("(deleted)"))).toHaveLength(1);
    },
  );

  test("a folder that is not there or cannot be written, and a file that is no database, refuse to start and are left alone", async () => {
    const inside = folder();
    const text = join(inside, "notes.db");
    const words = "these are no rows, and SQLite must not write over them\n".repeat(40);
    writeFileSync(text, words);
    mkdirSync(join(inside, "taken.db"));
    for (const path of [join(inside, "missing", "a.db"), join(inside, "taken.db"), text, "/proc/replica.db"]) {
      const error = await failure(openSqliteReplica(path));
      expect(error).toMatchObject({ code: "REPLICA_CANNOT_OPEN", verdict: "refuse" });
      expect(error.message).toContain(path);
    }
    expect(await Bun.file(text).text()).toBe(words);
    expect(existsSync(join(inside, "missing"))).toBe(false);
  });

  test.skipIf(process.getuid?.() === 0)("a file that cannot be written refuses to start", async () => {
    const path = join(folder(), "a.db");
    await (await openSqliteReplica(path))[Symbol.asyncDispose]();
    chmodSync(path, 0o400);
    expect(await failure(openSqliteReplica(path))).toMatchObject({ code: "REPLICA_CANNOT_OPEN", verdict: "refuse" });
  });

  test("triggers, which it cannot keep from firing, are findings", async () => {
    const lab = await openLab("sqlite");
    const replica = await lab.open();
    await applier(replica, items);
    expect(replica.findings()).toEqual([]);
    await lab.sql("CREATE TRIGGER mine AFTER INSERT ON items BEGIN SELECT 1; END");
    expect(replica.findings()).toEqual([expect.stringContaining("trigger mine of the replica's table items")]);
  });

  test("integers past 64 bits and texts that are no value of their type stop the table instead of changing on the way", async () => {
    const lab = await openLab("sqlite");
    const schema = tableSchema("n", { id: "integer", n: "bigint", b: "bytea" });
    const { apply } = await applier(await lab.open(), schema);
    for (const [n, b] of [
      ["9223372036854775808", null],
      ["-9223372036854775809", null],
      ["12x", null],
      ["", null],
      ["0x10", null],
      ["1", "a"],
      ["1", "??=="],
    ]) {
      const error = await failure(apply([event("c", null, { id: 1, n: n ?? null, b: b ?? null })]));
      expect(error).toMatchObject({ code: "MALFORMED_EVENT", verdict: "stop-table" });
      expect(error.message).toContain(b === null ? "column n" : "column b");
    }
    await apply([event("c", null, { id: 1, n: "-9223372036854775808", b: "" })]);
    expect(await lab.sql("SELECT CAST(n AS TEXT) AS n, typeof(b) AS b FROM n")).toEqual([
      { n: "-9223372036854775808", b: "blob" },
    ]);
  });
});
