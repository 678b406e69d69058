import { keyed } from "./poison-lab.ts";
import type { ReplicaKind, ReplicaLab } from "./replica-labs.ts";

/** A value that the replica's table refuses until it is cured. */
export const POISON = 666;
/** The constraint's own limit: engines show it in their errors. */
export const SANE = "CONSTRAINT sane CHECK (v < 600)";

/** A replica's table with a constraint of the user's own, and what takes it away. */
export async function makeSick(kind: ReplicaKind, lab: ReplicaLab): Promise<void> {
  const table = lab.nameOf(keyed);
  const type = { postgres: "integer", duckdb: "INTEGER", sqlite: "INTEGER", mariadb: "INT", mysql: "INT" }[kind];
  if (kind === "duckdb") await lab.sql("CREATE SCHEMA IF NOT EXISTS public");
  await lab.sql(`CREATE TABLE ${table} (id ${type} NOT NULL PRIMARY KEY, v ${type}, w ${type}, ${SANE})`);
}

export async function cure(kind: ReplicaKind, lab: ReplicaLab): Promise<void> {
  const table = lab.nameOf(keyed);
  if (kind === "postgres" || kind === "mariadb") return void (await lab.sql(`ALTER TABLE ${table} DROP CONSTRAINT sane`));
  if (kind === "mysql") return void (await lab.sql(`ALTER TABLE ${table} DROP CHECK sane`));
  const rows = await lab.rows(keyed);
  await lab.sql(`DROP TABLE ${table}`);
  await lab.sql(`CREATE TABLE ${table} (id INTEGER NOT NULL PRIMARY KEY, v INTEGER, w INTEGER)`);
  for (const { id, v, w } of rows) await lab.sql(`INSERT INTO ${table} VALUES (${id}, ${v}, ${w})`);
}
