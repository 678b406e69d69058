import { randomUUID } from "node:crypto";

/** Where something of a table was lost: in one partition of a topic, or in the topic, where that has one or nothing more is known. */
export interface LostPlace {
  readonly topic: string;
  readonly partition?: number;
}

/**
 * The name of a copy that a table waits for, under which it is asked for and remembered: unique, and with the places that have lost something
 * of the table, for what comes before that cannot take the copy's place.
 */
export const awaitedCopy = (lost: Iterable<LostPlace>): string => [randomUUID(), ...new Set([...lost].map(placeText))].join(" ");

/** Empty for a copy that an older version has asked for. */
export const lostBefore = (copy: string): readonly LostPlace[] =>
  copy
    .split(" ")
    .slice(1)
    .map((text) => {
      const [topic = "", partition] = text.split("/"); // of which no topic has one
      return partition === undefined ? { topic } : { topic, partition: Number(partition) };
    });

const placeText = ({ topic, partition }: LostPlace): string => (partition === undefined ? topic : `${topic}/${partition}`);
