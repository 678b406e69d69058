import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { SqlError } from "mariadb";
import { addsKey, type SchemaStep } from "../schema-change.ts";
import { mysqlError } from "./mysql-errors.ts";
import { fillAnew } from "./table-mismatch.ts";

const USED = "a generated column, constraint or index of the replica's own uses a column that changes: drop it there";
const FOREIGN_KEY = "a foreign key of the replica's own is on a column that changes: drop it there";
const VALUES = `a value of the replica's does not fit the new column, so that the replica is not what main-db is: ${fillAnew("cascade_progress")}`;

const cures = (cure: string, ...errnos: readonly number[]): readonly (readonly [number, string])[] =>
  errnos.map((errno) => [errno, cure]);

/** What ALTER TABLE refuses, by error number, and the cure. */
const CURES: ReadonlyMap<number, string> = new Map([
  ...cures(USED, 1054, 1072, 1089, 1167, 1170, 1901, 3105, 3106, 3108, 3837, 3959, 3980),
  ...cures(FOREIGN_KEY, 1553, 1828, 1829, 1830, 1832, 1833, 1834, 1846, 3780),
  ...cures("a column of the replica's own has AUTO_INCREMENT and loses its key: take AUTO_INCREMENT from it", 1075),
  ...cures("a column of the replica's own has the name of one that main-db added or renamed: rename or drop it there", 1060),
  ...cures("the replica's table has a primary key of its own: drop it", 1068),
  ...cures("the server demands a primary key of every table: SET GLOBAL sql_require_primary_key = OFF", 3750),
  ...cures(VALUES, 1062, 1138, 1171, 1264, 1265, 1292, 1366, 1406, 1690),
]);

/** A value that is there cannot become one of the new column. */
export const isUnfitValue = (error: unknown): boolean => error instanceof SqlError && UNFIT.has(error.errno ?? 0);
const UNFIT: ReadonlySet<number> = new Set([1264, 1265, 1292, 1366, 1406, 1690]);

/** A row is there twice under the new key: an index of the replica's own has another name. */
export const isKeyError = (error: unknown, steps: readonly SchemaStep[]): boolean =>
  error instanceof SqlError &&
  error.errno === 1062 &&
  addsKey(steps) &&
  /for key '(?:[^']*\.)?PRIMARY'/.test(error.sqlMessage ?? "");

/** What the server says to the DDL of a change. */
export function changeError(error: unknown, schema: TableSchema): CascadeError {
  const said = mysqlError(error, `changing the replica's table of ${formatTableName(schema)}`);
  const cure = error instanceof SqlError ? CURES.get(error.errno ?? 0) : undefined;
  if (cure === undefined) return said;
  return new CascadeError({
    code: "REPLICA_CHANGE_REFUSED",
    verdict: "stop-table",
    message: said.message,
    advice: `${cure}; the table is tried again, and goes on by itself`,
  });
}
