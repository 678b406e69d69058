import type { Random } from "@cascade/workload/random";
import pg from "pg";
import { ADDED_COLUMNS, literal, widerTypes } from "./living-values.ts";

/**
 * Tables that change while they are written to: each step is one transaction of random rows, schema changes, or both. What the tables
 * look like is asked of main-db each time, so that a step goes on wherever the last one ended, committed or not.
 */
export interface LivingTables {
  /** What was done, for people; null when main-db refused it and nothing was. */
  step(): Promise<string | null>;
}

const NAMES = ["alpha", "beta", "gamma", "delta", "epsilon", "Zeta's"] as const;
const COLUMN_NAMES = ["a", "b", "c", "d", "e", "order", "Mixed Case"] as const;

/** The first two columns hold what no two rows share, and are the key in turns: never dropped or altered in type. */
const UNIQUE_COLUMNS = 2;

export const LIVING_SCHEMA = "CREATE TYPE mood AS ENUM ('fine', 'sad'); CREATE SEQUENCE numbers; CREATE SCHEMA away";

/** What has left capture comes back to it. */
export const BRING_BACK = `DO $$ DECLARE one record; BEGIN
  FOR one IN SELECT oid::regclass AS name, to_regclass(format('public.%I', relname)) AS other FROM pg_class
              WHERE relnamespace = 'away'::regnamespace AND relkind = 'r' LOOP
    IF one.other IS NULL THEN
      BEGIN EXECUTE format('ALTER TABLE %s SET SCHEMA public', one.name);
      -- Made meanwhile, by a transaction whose answer was lost.
      EXCEPTION WHEN duplicate_table THEN EXECUTE format('DROP TABLE %s', one.name); END;
    ELSE EXECUTE format('DROP TABLE %s', one.name); END IF;
  END LOOP;
  FOR one IN SELECT oid::regclass AS name FROM pg_class
              WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relpersistence = 'u' LOOP
    EXECUTE format('ALTER TABLE %s SET LOGGED', one.name);
  END LOOP;
END $$`;

interface Column {
  readonly name: string;
  readonly attnum: number;
  readonly type: string;
  readonly not_null: boolean;
  readonly computed: boolean;
}
interface Table {
  readonly name: string;
  readonly columns: readonly Column[];
  readonly key: string | null;
}

const TABLES = `
  SELECT c.relname AS name, (SELECT conname FROM pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'p') AS key,
         (SELECT json_agg(json_build_object('name', attname, 'attnum', attnum, 'type', format_type(atttypid, atttypmod), 'not_null', attnotnull,
                   'computed', attgenerated <> '') ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname = ANY ($1)
   ORDER BY c.relname`;

export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export function livingTables(client: pg.Client, random: Random): LivingTables {
  return {
    step: async () => {
      const tables = (await client.query<Table>(TABLES, [NAMES])).rows;
      const statements = transaction(tables, random);
      if (statements.length === 0) return null;
      try {
        await client.query(`BEGIN; ${statements.join("; ")}; COMMIT`);
        return statements.map((statement) => statement.slice(0, 100)).join("; ");
      } catch (error) {
        // A lost connection is no refusal.
        if (!(error instanceof pg.DatabaseError) || error.code?.startsWith("57") === true) throw error;
        await client.query("ROLLBACK");
        return null;
      }
    },
  };
}

function transaction(tables: readonly Table[], random: Random): readonly string[] {
  if (tables.length < 2) return createTable(tables, random);
  const table = random.pick(tables as [Table, ...Table[]]);
  if (random.chance(0.6)) return Array.from({ length: random.between(1, 3) }, () => rows(table, random)).flat();
  const change = random.pick(CHANGES)(table, tables, random);
  if (change.length === 0 || random.chance(0.4)) return change;
  // Rows in the same transaction, before it: what comes after is the next step's, for its columns are not known here.
  return [...rows(table, random), ...change];
}

type Change = (table: Table, tables: readonly Table[], random: Random) => readonly string[];

const CHANGES: readonly [Change, ...Change[]] = [
  addColumn,
  addColumn,
  addColumn,
  addAndFill,
  dropColumn,
  renameColumn,
  swapColumns,
  alterType,
  alterType,
  toggleNotNull,
  changeKey,
  (_table, tables, random) => createTable(tables, random),
  (table, tables) => (tables.length > 3 ? [`DROP TABLE ${quoted(table.name)}`] : []),
  (table, _tables, random) => [`DROP TABLE ${quoted(table.name)}`, ...tableText(table.name, random)],
  renameTable,
  swapTables,
  (table) => [`TRUNCATE ${quoted(table.name)}`],
  leave,
  leave,
  () => [BRING_BACK],
];

function createTable(tables: readonly Table[], random: Random): readonly string[] {
  const name = freeName(
    NAMES,
    tables.map((table) => table.name),
    random,
  );
  return name === null ? [] : tableText(name, random);
}

/** With a first row in the same transaction, now and then. */
function tableText(name: string, random: Random): readonly string[] {
  const table = quoted(name);
  const extra = random.pick(["", ", a text", ", a integer, b varchar(20)"]);
  const made = `CREATE TABLE ${table} (id bigint NOT NULL, code varchar(40) NOT NULL${extra}, PRIMARY KEY (id))`;
  const row = `INSERT INTO ${table} (id, code) SELECT n, 'k' || n FROM nextval('numbers') AS n`;
  return random.chance(0.5) ? [made, row] : [made];
}

function freeName(names: readonly string[], taken: readonly string[], random: Random): string | null {
  const free = names.filter((name) => !taken.includes(name));
  return free.length === 0 ? null : random.pick(free as [string, ...string[]]);
}

const namesOf = ({ columns }: Table): readonly string[] => columns.map(({ name }) => name);
const others = ({ columns }: Table): readonly Column[] => columns.filter(({ attnum }) => attnum > UNIQUE_COLUMNS);

function addColumn(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const name = freeName(COLUMN_NAMES, namesOf(table), random);
  if (name === null) return [];
  return [`ALTER TABLE ${quoted(table.name)} ADD COLUMN ${quoted(name)} ${random.pick(ADDED_COLUMNS)}`];
}

/** Schema, rows, schema, rows: all in one transaction. */
function addAndFill(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const name = freeName(COLUMN_NAMES, namesOf(table), random);
  if (name === null) return [];
  const [sql, column] = [quoted(table.name), quoted(name)];
  const insert = insertText(table, random);
  return [
    `ALTER TABLE ${sql} ADD COLUMN ${column} integer DEFAULT 1`,
    ...insert,
    `ALTER TABLE ${sql} ALTER COLUMN ${column} SET DEFAULT 2`,
    ...insert,
    `UPDATE ${sql} SET ${column} = 3 WHERE ${some(table, random)}`,
    ...(random.chance(0.5) ? [`ALTER TABLE ${sql} DROP COLUMN ${column}`, ...insert] : []),
  ];
}

function dropColumn(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const [first, ...rest] = others(table);
  if (first === undefined) return [];
  return [`ALTER TABLE ${quoted(table.name)} DROP COLUMN ${quoted(random.pick([first, ...rest]).name)}`];
}

/** Key columns too. */
function renameColumn(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const name = freeName(COLUMN_NAMES, namesOf(table), random);
  const column = random.pick(table.columns as [Column, ...Column[]]);
  if (name === null) return [];
  return [`ALTER TABLE ${quoted(table.name)} RENAME COLUMN ${quoted(column.name)} TO ${quoted(name)}`];
}

function swapColumns(table: Table): readonly string[] {
  const [one, other] = others(table);
  if (one === undefined || other === undefined) return [];
  const rename = (from: string, to: string) => `ALTER TABLE ${quoted(table.name)} RENAME COLUMN ${quoted(from)} TO ${quoted(to)}`;
  return [rename(one.name, "between"), rename(other.name, one.name), rename("between", other.name)];
}

function alterType(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const [first, ...rest] = others(table).filter(({ type }) => widerTypes(type).length > 0);
  if (first === undefined) return [];
  const column = random.pick([first, ...rest]);
  const [wider, ...more] = widerTypes(column.type);
  if (wider === undefined) return [];
  const { type, using } = random.pick([wider, ...more]);
  const [sql, name] = [quoted(table.name), quoted(column.name)];
  const cast = using === null ? "" : ` USING ${using.replace("%", name)}`;
  return [
    `ALTER TABLE ${sql} ALTER COLUMN ${name} DROP DEFAULT`,
    `ALTER TABLE ${sql} ALTER COLUMN ${name} DROP IDENTITY IF EXISTS, ALTER COLUMN ${name} TYPE ${type}${cast}`,
  ];
}

function toggleNotNull(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const [first, ...rest] = others(table).filter(({ computed }) => !computed);
  if (first === undefined) return [];
  const { name, type, not_null } = random.pick([first, ...rest]);
  const alter = `ALTER TABLE ${quoted(table.name)} ALTER COLUMN ${quoted(name)}`;
  if (not_null) return [`${alter} DROP IDENTITY IF EXISTS`, `${alter} DROP NOT NULL`];
  const fill = `UPDATE ${quoted(table.name)} SET ${quoted(name)} = ${literal(type, true, random)} WHERE ${quoted(name)} IS NULL`;
  return [fill, `${alter} SET NOT NULL`];
}

/** One of the unique columns, or both in either order. */
function changeKey(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const [id, code] = table.columns.slice(0, UNIQUE_COLUMNS).map(({ name }) => quoted(name));
  const key = random.pick([`${id}`, `${code}`, `${id}, ${code}`, `${code}, ${id}`]);
  const dropped = table.key === null ? "" : `DROP CONSTRAINT ${quoted(table.key)}, `;
  return [`ALTER TABLE ${quoted(table.name)} ${dropped}ADD PRIMARY KEY (${key})`];
}

function renameTable(table: Table, tables: readonly Table[], random: Random): readonly string[] {
  const name = freeName(
    NAMES,
    tables.map((each) => each.name),
    random,
  );
  return name === null ? [] : [`ALTER TABLE ${quoted(table.name)} RENAME TO ${quoted(name)}`];
}

/** As a migration puts a new table in an old one's place. */
function swapTables(table: Table, tables: readonly Table[], random: Random): readonly string[] {
  const other = random.pick(tables as [Table, ...Table[]]);
  if (other.name === table.name) return [];
  const rename = (from: string, to: string) => `ALTER TABLE ${quoted(from)} RENAME TO ${quoted(to)}`;
  return [rename(table.name, "between"), rename(other.name, table.name), rename("between", other.name)];
}

/** Out of capture, changed there, and back at once or later: none of it is in the WAL, or in any topic. */
function leave(table: Table, _tables: readonly Table[], random: Random): readonly string[] {
  const name = quoted(table.name);
  const next = ["COMMIT", "BEGIN"];
  const [away, out] = random.chance(0.5)
    ? [`away.${name}`, `ALTER TABLE ${name} SET SCHEMA away`]
    : [name, `ALTER TABLE ${name} SET UNLOGGED`];
  const change = `DELETE FROM ${away} WHERE ${some(table, random)}`;
  return [out, ...next, change, ...(random.chance(0.5) ? [...next, BRING_BACK] : [])];
}

function rows(table: Table, random: Random): readonly string[] {
  const sql = quoted(table.name);
  switch (random.pick(["insert", "insert", "update", "update", "delete", "move"] as const)) {
    case "insert":
      return insertText(table, random);
    case "update": {
      const [first, ...rest] = others(table).filter(({ computed }) => !computed);
      if (first === undefined) return insertText(table, random);
      const { name, type, not_null } = random.pick([first, ...rest]);
      return [`UPDATE ${sql} SET ${quoted(name)} = ${literal(type, not_null, random)} WHERE ${some(table, random)}`];
    }
    case "delete":
      return [`DELETE FROM ${sql} WHERE ${some(table, random)}`];
    case "move": {
      const id = quoted(table.columns[0]?.name ?? "");
      return [`UPDATE ${sql} SET ${id} = nextval('numbers') WHERE ${id} = (SELECT min(${id}) FROM ${sql})`];
    }
  }
}

/** About one row in five. */
const some = ({ columns }: Table, random: Random): string => `${quoted(columns[0]?.name ?? "")} % 5 = ${random.between(0, 4)}`;

function insertText(table: Table, random: Random): readonly string[] {
  const given = table.columns.filter(({ computed }) => !computed);
  const values = given.map(({ attnum, type, not_null }) => {
    if (attnum === 1) return "n";
    return attnum === UNIQUE_COLUMNS ? "'k' || n" : `${literal(type, not_null, random)}::${type}`;
  });
  const names = given.map(({ name }) => quoted(name)).join(", ");
  const count = random.between(1, 20);
  return [
    `INSERT INTO ${quoted(table.name)} (${names}) SELECT ${values.join(", ")} FROM (SELECT nextval('numbers') AS n FROM generate_series(1, ${count})) AS new`,
  ];
}
