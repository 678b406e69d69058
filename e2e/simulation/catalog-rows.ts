import type { CatalogRows } from "@cascade/cdc/src/postgres/relation.ts";
import type { TableSchema } from "@cascade/shared/table-schema";

/** What catalog-sql.ts would find of these tables. */
export function catalogRows(schemas: readonly TableSchema[]): CatalogRows {
  const relations = schemas.map(({ oid, schema, table }) => ({
    kind: "table" as const,
    oid: String(oid),
    root_oid: String(oid),
    schema,
    table,
    root_schema: schema,
    root_table: table,
    filled: true,
  }));
  const columns = schemas.flatMap((schema) =>
    schema.columns.map(({ name, attnum, type, typeOid, typmod, nullable, generated, ...column }) => ({
      rel: String(schema.oid),
      name,
      attnum,
      declared: String(typeOid),
      type,
      type_oid: String(typeOid),
      typmod,
      nullable,
      default: column.default,
      generated,
      missing: null,
    })),
  );
  const identities = schemas.map(({ oid, key, identity }) => ({
    rel: String(oid),
    identity: identity === "full" ? ("f" as const) : ("d" as const),
    primary_key: key.length > 0 ? key : null,
    identity_index: null,
  }));
  return { relations, columns, identities };
}
