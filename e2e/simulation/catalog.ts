import type { Catalog } from "@cascade/cdc/src/postgres/catalog.ts";
import { type Capture, relationsOf } from "@cascade/cdc/src/postgres/relation.ts";
import { catalogRows } from "./catalog-rows.ts";
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
