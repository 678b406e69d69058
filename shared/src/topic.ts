import { CascadeError } from "./errors.ts";

/** Kafka's own limit on the length of a topic name. */
const MAX_TOPIC_LENGTH = 249;

/** Names that are not tables: one part after the prefix, or under a reserved first part. */
export const schemasTopic = (prefix: string): string => `${prefix}.schemas`;
/** Requests for snapshots, and their state. */
export const signalsTopic = (prefix: string): string => `${prefix}.signals`;
/** That the pipeline lives, and how far it is. */
export const heartbeatTopic = (prefix: string): string => `${prefix}.heartbeat`;
/** Those that keep the newest message of each key; all others are tables'. */
export const compactedTopics = (prefix: string): readonly string[] => [
  schemasTopic(prefix),
  signalsTopic(prefix),
  heartbeatTopic(prefix),
];
export const deadLettersTopic = (prefix: string, replica: string): string => `${prefix}.${DEAD_LETTERS}.${escapePart(replica)}`;

const DEAD_LETTERS = "dead-letters";

export interface TableName {
  readonly schema: string;
  readonly table: string;
}

/** How a table is written in logs, errors, metrics and `/status`: `schema.table`, each part quoted only where it must be. */
export function formatTableName(name: TableName): string {
  return `${quoteWhereNeeded(name.schema)}.${quoteWhereNeeded(name.table)}`;
}

/** For SQL that people are to run: always quoted, for a reserved word or a capital letter needs it too. */
export function quoteTableName({ schema, table }: TableName): string {
  return `${quoteName(schema)}.${quoteName(table)}`;
}

export const quoteName = (name: string): string => `"${name.replaceAll('"', '""')}"`;

function quoteWhereNeeded(part: string): string {
  return /^[\p{L}_][\p{L}\p{N}_$-]*$/u.test(part) ? part : quoteName(part);
}

/**
 * The topic of a table: `<prefix>.<schema>.<table>`, where every byte of a part that Kafka does not allow in a name, the dot that
 * separates the parts and the escape character `_` are written `_xHH` per UTF-8 byte. Injective: two tables never share a topic,
 * nor collide in Kafka's metric names (where `.` and `_` are the same).
 * Throws CascadeError TOPIC_NAME_TOO_LONG past Kafka's 249 characters.
 */
export function topicOf(prefix: string, { schema, table }: TableName): string {
  // A schema of that very name would otherwise meet the dead letters of a replica named like the table.
  const first = schema === DEAD_LETTERS ? "dead_x2Dletters" : escapePart(schema);
  const topic = `${prefix}.${first}.${escapePart(table)}`;
  if (topic.length > MAX_TOPIC_LENGTH) {
    throw new CascadeError({
      code: "TOPIC_NAME_TOO_LONG",
      verdict: "refuse",
      message: `table ${formatTableName({ schema, table })} needs a topic name of ${topic.length} characters; Kafka allows ${MAX_TOPIC_LENGTH}`,
      advice: `exclude it (CDC_TABLES=...,!${formatTableName({ schema, table })}), shorten KAFKA_TOPIC_PREFIX, or rename the table`,
    });
  }
  return topic;
}

/** The table whose rows a topic carries, or null when it is not a table topic of this prefix. */
export function tableOfTopic(prefix: string, topic: string): TableName | null {
  if (!topic.startsWith(`${prefix}.`)) return null;
  const parts = topic.slice(prefix.length + 1).split(".");
  const [schema, table] = parts;
  if (parts.length !== 2 || schema === undefined || table === undefined || schema === DEAD_LETTERS) return null;
  const name = { schema: unescapePart(schema), table: unescapePart(table) };
  return name.schema !== null && name.table !== null ? { schema: name.schema, table: name.table } : null;
}

function escapePart(part: string): string {
  if (/^[A-Za-z0-9-]+$/.test(part)) return part;
  let escaped = "";
  for (const byte of new TextEncoder().encode(part)) {
    const char = String.fromCharCode(byte);
    escaped += /[A-Za-z0-9-]/.test(char) ? char : `_x${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return escaped;
}

function unescapePart(part: string): string | null {
  if (!/^(?:[A-Za-z0-9-]|_x[0-9A-F]{2})+$/.test(part)) return null;
  const percent = part.replace(/_x([0-9A-F]{2})/g, "%$1");
  try {
    return decodeURIComponent(percent);
  } catch {
    return null; // not UTF-8: no table of ours is named so
  }
}
