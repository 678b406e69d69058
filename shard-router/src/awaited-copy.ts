import { randomUUID } from "node:crypto";

/** A topic that has lost something of a table. */
export interface LostPlace {
  readonly topic: string;
  /** Its table's rows are divided over partitions: what one of them has lost may come after what another has. */
  readonly isDivided: boolean;
}

/**
 * The name of a copy that a table waits for, under which it is asked for and remembered: unique, and with the topics that have lost something
 * of the table, for what comes before that cannot take the copy's place.
 */
export const awaitedCopy = (lost: Iterable<LostPlace>): string => [randomUUID(), ...new Set([...lost].map(placeText))].join(" ");

/** Empty for a copy that an older version has asked for. */
export const lostBefore = (copy: string): readonly LostPlace[] =>
  copy
    .split(" ")
    .slice(1)
    .map((text) => {
      const isDivided = text.endsWith(DIVIDED);
      return { topic: isDivided ? text.slice(0, -DIVIDED.length) : text, isDivided };
    });

/** In no topic's name. */
const DIVIDED = "/*";

const placeText = ({ topic, isDivided }: LostPlace): string => (isDivided ? `${topic}${DIVIDED}` : topic);
