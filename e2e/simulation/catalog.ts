import type { Catalog } from "@cascade/cdc/src/postgres/catalog.ts";
import { type Capture, type CatalogRows, type Relation, relationsOf } from "@cascade/cdc/src/postgres/relation.ts";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { MainDb } from "./main-db.ts";
import { QUERY_RISK } from "./main-db-client.ts";
import type { SimulatedSession } from "./main-db-session.ts";

/** The simulated main-db's catalog, as it is now: the stream may be behind it. */
export function catalogOf(mainDb: MainDb, session: SimulatedSession, capture: Capture): Catalog {
  const now = () => [...mainDb.tables.values()].map(({ schema }) => schema);
  const catalog: Pick<Catalog, "captured" | "fingerprint"> = {
    captured: () => session.call(() => relationsOf(catalogRows(now()), capture), QUERY_RISK),
    fingerprint: () => session.call(() => JSON.stringify(now().map(({ id }) => id)), QUERY_RISK),
  };
  return catalog as Catalog;
}

export const relationOf = (schema: TableSchema, capture: Capture): Relation | null =>
  relationsOf(catalogRows([schema]), capture)[0] ?? null;

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
  const identities = schemas.map(({ oid, key }) => ({
    rel: String(oid),
    identity: key.length > 0 ? ("d" as const) : ("f" as const),
    primary_key: key.length > 0 ? key : null,
    identity_index: null,
  }));
  return { relations, columns, identities };
}
