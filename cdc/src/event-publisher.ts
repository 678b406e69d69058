import type { ChangeEvent } from "@cascade/shared/change-event";
import type { SchemaMessage } from "@cascade/shared/table-schema";
import type { SourceHeartbeat, TableChanged, TableDropped } from "./change-source.ts";

/** What is said of a table in `<prefix>.schemas`. */
export type Announcement = TableChanged | TableDropped;

/** Where changes go. One call at a time: the caller awaits each before the next. */
export interface EventPublisher extends AsyncDisposable {
  /** Resolves when the brokers answer: how a service with nothing to publish learns that they are away. */
  check(): Promise<void>;
  /** Whether anything was ever published under this prefix: a slot that is missing then has lost changes. */
  hasPublished(): Promise<boolean>;
  /** What earlier lives have announced, before anything is announced in this one. */
  recall(announced: Iterable<SchemaMessage>): void;
  /** Makes sure each schema's table topic exists and resolves when all of it is durable, in order. Called before the first event naming a schema. */
  announce(news: readonly Announcement[]): Promise<void>;
  /** Resolves when every in-sync broker has every event, in order. On rejection any prefix may be published. Resolves to the bytes sent. */
  publish(events: readonly ChangeEvent[]): Promise<number>;
  /** Tells consumers that the pipeline lives, and that everything before this place is published. */
  heartbeat(beat: SourceHeartbeat): Promise<void>;
}
