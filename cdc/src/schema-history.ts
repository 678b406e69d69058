import { comparePositions, type Lsn, type Position } from "@cascade/shared/lsn";
import type { SchemaMessage, TableSchema } from "@cascade/shared/table-schema";

/** A message of a version that did not say its place comes before all that did. */
const BEGINNING: Position = { commitLsn: -1n, ordinal: 0 };

export const placeOf = ({ at }: SchemaMessage): Position => at ?? BEGINNING;
export const oidOf = (message: SchemaMessage): number => (message.kind === "schema" ? message.schema.oid : message.oid);

/** What was ever announced of each table, as `<prefix>.schemas` keeps it: which schema rows from before a restart were written under. */
export class SchemaHistory {
  /** By OID, in order of place. */
  readonly #versions: ReadonlyMap<number, readonly SchemaMessage[]>;
  readonly #newest: ReadonlyMap<number, SchemaMessage>;
  /** Of every schema in it. */
  readonly ids: ReadonlySet<string>;

  /** @param messages in the topic's order */
  constructor(messages: readonly SchemaMessage[]) {
    const versions = Map.groupBy(messages, oidOf);
    for (const list of versions.values()) list.sort((a, b) => comparePositions(placeOf(a), placeOf(b)));
    this.#versions = versions;
    const newest = new Map<number, SchemaMessage>();
    for (const message of messages) {
      const known = newest.get(oidOf(message));
      // What a cdc says late, which another has overtaken, is news of the past.
      const isOvertaken = known !== undefined && message.at !== null && comparePositions(message.at, placeOf(known)) < 0;
      if (!isOvertaken) newest.set(oidOf(message), message);
    }
    this.#newest = newest;
    this.ids = new Set(messages.flatMap((message) => (message.kind === "schema" ? [message.schema.id] : [])));
  }

  /** Of each table in order of place. */
  *messages(): Iterable<SchemaMessage> {
    for (const versions of this.#versions.values()) yield* versions;
  }

  get oids(): Iterable<number> {
    return this.#newest.keys();
  }

  /** As they were announced last, those that are not known to be gone. */
  get tables(): readonly TableSchema[] {
    return [...this.#newest.values()].flatMap((newest) => (newest.kind === "schema" ? [newest.schema] : []));
  }

  /** The last one announced, but for those that were overtaken on their way. */
  newest(oid: number): SchemaMessage | undefined {
    return this.#newest.get(oid);
  }

  /** What a table is for the first transaction that commits at or after `lsn`. */
  asOf(oid: number, lsn: Lsn): SchemaMessage | undefined {
    return this.#versions.get(oid)?.findLast((version) => placeOf(version).commitLsn < lsn);
  }

  /** Of all tables what comes later, in order. */
  after(lsn: Lsn): readonly SchemaMessage[] {
    return [...this.#versions.values()]
      .flatMap((versions) => versions.filter((version) => placeOf(version).commitLsn >= lsn))
      .sort((a, b) => comparePositions(placeOf(a), placeOf(b)));
  }

  /** The schemas that a table, or whatever had that name, was ever announced with: the newest first. */
  *schemasOf(oid: number) {
    for (const version of this.#versions.get(oid)?.toReversed() ?? []) if (version.kind === "schema") yield version.schema;
  }

  *schemasNamed({ schema, table }: { readonly schema: string; readonly table: string }) {
    for (const versions of this.#versions.values())
      for (const version of versions.toReversed())
        if (version.kind === "schema" && version.schema.schema === schema && version.schema.table === table) yield version.schema;
  }
}
