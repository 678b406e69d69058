import { afterEach, expect, test } from "bun:test";
import { testPostgres } from "@cascade/local/servers.ts";
import pg from "pg";
import { ddlCaptureState, ensureDdlCapture, uninstallDdlCapture } from "../src/postgres/ddl-capture.ts";
import { connect } from "../src/postgres/session.ts";
import { DdlLab } from "./ddl-lab.ts";
import { cleanUp, cleanups, codeOf, type Lab, lab } from "./source-lab.ts";

afterEach(cleanUp);

/** Putting the event triggers into a real server and taking them out, with and without the right to; and what is left without them. */

const silent = () => {};

async function sessionOn(url: string): Promise<pg.Client> {
  const session = await connect(url);
  cleanups.push(() => session.end());
  return session;
}

/** The lab's database as a role that may no more than a cdc needs. */
async function asRole(l: Lab, name: string, attributes = "REPLICATION"): Promise<string> {
  const role = `${name}_${process.pid}`;
  await l.sql(
    `DROP ROLE IF EXISTS ${role}; CREATE ROLE ${role} LOGIN PASSWORD 'x' ${attributes}; GRANT pg_read_all_data TO ${role}`,
  );
  cleanups.push(async () => {
    const server = await testPostgres();
    await server.query("postgres", `DROP ROLE IF EXISTS ${role}`);
  });
  const url = new URL(l.url);
  [url.username, url.password] = [role, "x"];
  return url.toString();
}

const messages = async (l: Lab): Promise<string[]> =>
  (
    await l.sql(
      `SELECT data::json->>'content' AS content FROM pg_logical_slot_get_changes('${l.slot}', null, null, 'format-version', '2', 'actions', 'insert', 'add-msg-prefixes', 'cascade.ddl') WHERE data LIKE '{"action":"M"%'`,
    )
  ).rows.map(({ content }) => content as string);

test("several start at once: one installs, all find it; a second start changes nothing; what was changed is put right", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const sessions = await Promise.all([1, 2, 3].map(() => sessionOn(l.url)));
  expect(await Promise.all(sessions.map((session) => ensureDdlCapture(session, "auto", silent)))).toEqual([true, true, true]);
  const xmin = async () =>
    (await l.sql("SELECT array_agg(xmin::text || oid ORDER BY oid) AS rows FROM pg_event_trigger")).rows[0];
  const before = await xmin();
  const [session] = sessions as [pg.Client];
  await ensureDdlCapture(session, "required", silent);
  expect(await xmin()).toEqual(before);
  await l.sql("ALTER EVENT TRIGGER cascade_cdc_drop DISABLE");
  expect(await ddlCaptureState(session)).toBe("missing");
  await ensureDdlCapture(session, "auto", silent);
  await l.sql("COMMENT ON SCHEMA cascade_cdc IS 'an older version'");
  expect(await ddlCaptureState(session)).toBe("other");
  await ensureDdlCapture(session, "auto", silent);
  expect(await ddlCaptureState(session)).toBe("installed");
});

test("uninstalling leaves nothing, by the command's statements or by README's one", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const session = await sessionOn(l.url);
  const left = async () =>
    (await l.sql("SELECT (SELECT count(*) FROM pg_event_trigger)::int AS triggers, to_regnamespace('cascade_cdc') AS schema"))
      .rows[0];
  for (const remove of [() => uninstallDdlCapture(session), () => l.sql("DROP SCHEMA cascade_cdc CASCADE")]) {
    await ensureDdlCapture(session, "required", silent);
    await remove();
    expect(await left()).toEqual({ triggers: 0, schema: null });
  }
  await uninstallDdlCapture(session);
});

test("anybody's commands are captured, whatever their rights and settings, and temporary tables cost no message", async () => {
  const l = await lab("GRANT ALL ON SCHEMA public TO PUBLIC");
  await ensureDdlCapture(await sessionOn(l.url), "required", silent);
  const user = new pg.Client({ connectionString: await asRole(l, "nobody", "") });
  await user.connect();
  cleanups.push(() => user.end());
  cleanups.push(() => l.sql(`DROP OWNED BY nobody_${process.pid}`));
  await messages(l);
  await user.query(
    "CREATE TEMP TABLE x (id int); ALTER TABLE x ADD n int; DROP TABLE x; CREATE TEMP TABLE y ON COMMIT DROP AS SELECT 1",
  );
  await user.query("CREATE VIEW v AS SELECT 1 AS one; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP VIEW v");
  expect(await messages(l)).toEqual([]);
  await user.query(
    "SET bytea_output = escape; SET datestyle = German; SET search_path = public; CREATE TABLE t (id int PRIMARY KEY)",
  );
  await user.query("ALTER TABLE t ADD b bytea DEFAULT '\\x0061', ADD d date DEFAULT '2026-12-31'");
  const last = JSON.parse((await messages(l)).at(-1) ?? "{}") as { columns: { name: string; missing: string | null }[] };
  expect(last.columns.map(({ name, missing }) => [name, missing])).toEqual([
    ["id", null],
    ["b", "\\x0061"],
    ["d", "2026-12-31"],
  ]);
  // Nor may they reach what writes the messages.
  await expect(user.query("SELECT cascade_cdc.tell('{1}', true)")).rejects.toThrow("permission denied");
});

test("what goes wrong in the trigger is a warning, never the command's end, and cdc is told to look", async () => {
  const l = await lab("");
  await ensureDdlCapture(await sessionOn(l.url), "required", silent);
  await messages(l);
  await l.sql("CREATE OR REPLACE FUNCTION cascade_cdc.columns(oid[]) RETURNS json LANGUAGE sql AS 'SELECT to_json(1/0)'");
  await l.sql("CREATE TABLE t (id int PRIMARY KEY)");
  expect((await messages(l)).map((text) => JSON.parse(text) as unknown)).toEqual([{ v: 1, look: true }]);
});

test("a tree of a thousand partitions is told of in bounded messages", async () => {
  const l = await lab(`
    CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
    DO $$BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE p%s PARTITION OF p FOR VALUES IN (%s)', n, n); END LOOP; END$$`);
  await ensureDdlCapture(await sessionOn(l.url), "required", silent);
  await messages(l);
  const started = performance.now();
  await l.sql("ALTER TABLE p ADD n int");
  const tookMs = performance.now() - started;
  const told = await messages(l);
  expect(told).toHaveLength(21);
  expect(Math.max(...told.map(({ length }) => length))).toBeLessThan(100_000);
  expect(tookMs).toBeLessThan(5_000);
});

test("without the right, `required` refuses with the cure, and `auto` warns and finds changes late", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY, x text); CREATE TABLE u (id int PRIMARY KEY)");
  const url = await asRole(l, "modest");
  expect(await codeOf(ensureDdlCapture(await sessionOn(url), "required", silent))).toBe("DDL_CAPTURE");
  const d = new DdlLab(l, { mode: "auto", url });
  const life = await d.life();
  expect(d.warnings.filter((warning) => warning.includes("may not create event triggers"))).toHaveLength(1);
  await life.parts.watch.check();
  await l.sql("ALTER TABLE t RENAME TO renamed; DROP TABLE u; CREATE TABLE fresh (id int PRIMARY KEY)");
  for (let look = 0; look < 2; look++) await life.parts.watch.check();
  await life.until(() => d.said.some(({ kind }) => kind === "dropped"));
  expect(
    d.said
      .slice(2)
      .map((said) => (said.kind === "dropped" ? `-${said.table}` : said.schema.table))
      .toSorted(),
  ).toEqual(["-u", "fresh", "renamed"]);
  await life.parts.close();
  // Rows from before a change that was made while cdc was down come under what they were written under, known from before.
  const before = d.said.length;
  await l.sql("INSERT INTO renamed VALUES (1, 'a')");
  await l.sql("ALTER TABLE renamed DROP x; ALTER TABLE renamed ADD y int");
  await l.sql("INSERT INTO renamed VALUES (2, 2)");
  await l.sql("DROP TABLE fresh");
  await (await d.life()).until(() => d.events.length === 2 && d.said.filter(({ kind }) => kind === "dropped").length === 2);
  expect(
    d.events.map((event) =>
      d
        .schemaOf(event)
        .columns.map(({ name }) => name)
        .join(),
    ),
  ).toEqual(["id,x", "id,y"]);
  expect(
    d.said.slice(before).map((said) => (said.kind === "dropped" ? `-${said.table}` : `${said.schema.table} ${said.rewritten}`)),
  ).toEqual(["renamed false", "-fresh"]);
});

test("triggers that are removed while cdc runs are put back, and what was missed is told", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const d = new DdlLab(l, { mode: "auto" });
  const life = await d.life();
  await life.parts.watch.check();
  await l.sql("DROP SCHEMA cascade_cdc CASCADE");
  await l.sql("ALTER TABLE t ADD n int");
  await life.parts.watch.check();
  expect(d.warnings.filter((warning) => warning.includes("were removed or disabled"))).toHaveLength(1);
  expect(await ddlCaptureState(await sessionOn(l.url))).toBe("installed");
  await life.until(() => d.said.length === 2);
  // A session that fires no triggers at all.
  await l.sql(
    "ALTER EVENT TRIGGER cascade_cdc_command DISABLE; ALTER TABLE t ADD m int; ALTER EVENT TRIGGER cascade_cdc_command ENABLE ALWAYS",
  );
  for (let look = 0; look < 3; look++) await life.parts.watch.check();
  await life.until(() => d.said.length === 3);
  expect(d.said.map((said) => (said.kind === "schema" ? said.schema.columns.length : 0))).toEqual([1, 2, 3]);
});
