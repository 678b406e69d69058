import type { TableSchema } from "@cascade/shared/table-schema";
import { duckdbDialect, ROWID_NAME } from "../dialects/duckdb.ts";
import { duckdbHolds } from "../dialects/duckdb-types.ts";
import { quote } from "../dialects/sql.ts";
import { foldAscii } from "../dialects/table-names.ts";
import { constantDefault, type Misfit, missingColumn } from "./table-mismatch.ts";

/** A table as the file's catalog has it. */
export interface FoundTable {
  readonly isTable: boolean;
  readonly columns: readonly FoundColumn[];
  /** Rows can be found, and put, by the source's key. */
  readonly hasKey: boolean;
}

export interface FoundColumn {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  /** Takes no value from us. */
  readonly generated: boolean;
  readonly collationIsExact: boolean;
}

/** Why the table cannot take the source's rows; pure. */
export function misfitsOf(schema: TableSchema, sqlName: string, found: FoundTable): readonly Misfit[] {
  if (!found.isTable) return [{ problem: "it is not a table", cure: `drop or rename ${sqlName}` }];
  const alter = `ALTER TABLE ${sqlName}`;
  const byName = new Map(found.columns.map((column) => [foldAscii(column.name), column]));
  const wanted = new Set(schema.columns.map(({ name }) => foldAscii(name)));
  const own = found.columns.filter(({ name }) => !wanted.has(foldAscii(name)));
  const misfits: Misfit[] = duckdbDialect.columnsOf(schema).flatMap(({ name, type }, index) => {
    const column = byName.get(foldAscii(name));
    const source = schema.columns[index];
    if (source === undefined) return [];
    const label = quote(name);
    if (column === undefined) {
      const sqlDefault = literalFor(type, constantDefault(source.default));
      return [
        missingColumn(
          alter,
          { name: label, type, sqlDefault },
          own.map((extra) => quote(extra.name)),
        ),
      ];
    }
    const inKey = schema.key.includes(name);
    const anew = `make ${sqlName} anew with ${label} ${type}`;
    const of: Misfit[] = [];
    if (column.generated) of.push({ problem: `column ${label} is generated, and takes no value`, cure: anew });
    else if (!duckdbHolds(source, column.type)) {
      const problem = `column ${label} is ${column.type}, which does not hold every ${source.type} exactly`;
      of.push({ problem, cure: inKey ? anew : `${alter} ALTER COLUMN ${label} TYPE ${type}` });
    }
    if (source.nullable && column.notNull && !inKey)
      of.push({ problem: `column ${label} is NOT NULL`, cure: `${alter} ALTER COLUMN ${label} DROP NOT NULL` });
    const foundBy = schema.key.length === 0 ? "all columns" : inKey ? "the key" : null;
    if (foundBy !== null && !column.collationIsExact) {
      const problem = `rows are found by ${foundBy}, and column ${label} has a collation that takes different values for one`;
      of.push({ problem, cure: anew });
    }
    return of;
  });
  for (const { name, notNull, hasDefault } of own) {
    if (!notNull || hasDefault) continue;
    const label = quote(name);
    misfits.push({
      problem: `its own column ${label} is NOT NULL without a default`,
      cure: `${alter} ALTER COLUMN ${label} DROP NOT NULL`,
    });
  }
  return [...misfits, ...keyMisfits(schema, sqlName, found, own)];
}

function keyMisfits(
  schema: TableSchema,
  sqlName: string,
  { hasKey }: FoundTable,
  own: readonly FoundColumn[],
): readonly Misfit[] {
  if (schema.key.length === 0) {
    return own
      .filter(({ name }) => foldAscii(name) === ROWID_NAME)
      .map(({ name }) => ({
        problem: `its own column ${quote(name)} hides DuckDB's row number`,
        cure: `ALTER TABLE ${sqlName} DROP COLUMN ${quote(name)}`,
      }));
  }
  if (hasKey) return [];
  const columns = schema.key.map(quote).join(", ");
  return [
    {
      problem: `no unique index on exactly the key (${columns})`,
      cure: `CREATE UNIQUE INDEX ${quote(`${schema.table}_key`)} ON ${sqlName} (${columns})`,
    },
  ];
}

/** A default in the file must be what the router would have written: of the other types that may be another text than main-db's. */
function literalFor(type: string, literal: string | null): string | null {
  if (literal === null) return null;
  if (type === "VARCHAR") return literal.startsWith("'") ? literal : null;
  if (type === "BOOLEAN") return /^(?:true|false)$/.test(literal) ? literal : null;
  return /INT|DECIMAL/.test(type) && /^-?[\d.]+$/.test(literal) ? literal : null;
}
