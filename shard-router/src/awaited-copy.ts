import { randomUUID } from "node:crypto";

/**
 * The name of a copy that a table waits for, under which it is asked for and remembered: unique, and with the topics that have lost something
 * of the table, for what comes before that cannot take the copy's place.
 */
export const awaitedCopy = (lost: Iterable<string>): string => [randomUUID(), ...new Set(lost)].join(" ");

/** Empty for a copy that an older version has asked for. */
export const topicsLostBefore = (copy: string): readonly string[] => copy.split(" ").slice(1);
