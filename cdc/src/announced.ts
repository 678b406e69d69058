import type { SchemaMessage } from "@cascade/shared/table-schema";
import type { Announcement } from "./event-publisher.ts";

/** What was said of each table last. */
export class Announced {
  /** The newest schema's id by OID; null: dropped. */
  readonly #newest = new Map<number, string | null>();

  /** Those that say something new, in order; they count as said. A schema may come back; the same one twice in a row says nothing. */
  news(announcements: readonly Announcement[]): readonly Announcement[] {
    return announcements.filter((announcement) => this.#isNews(announcement));
  }

  #isNews(announcement: Announcement): boolean {
    const isSchema = announcement.kind === "schema";
    const oid = isSchema ? announcement.schema.oid : announcement.oid;
    const id = isSchema ? announcement.schema.id : null;
    if (this.#newest.get(oid) === id && !(isSchema && announcement.rewritten)) return false;
    this.#newest.set(oid, id);
    return true;
  }
}

/** As `<prefix>.schemas` has it. */
export const schemaMessageOf = (announcement: Announcement): SchemaMessage =>
  announcement.kind === "schema" ? { ...announcement, rewritten: announcement.rewritten === true } : announcement;
