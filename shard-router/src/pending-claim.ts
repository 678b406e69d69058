/**
 * What a replica remembers in place of its part while a router claims it for other rules: nobody knows yet whether its tables allow them. Whoever
 * meets it looks at the tables and settles it, before anything else, so that all tables that there are then were made by the rules from before.
 */
export interface PendingClaim {
  /** Both as Ownership.text says it. */
  readonly from: string;
  readonly to: string;
}

const PREFIX = "claimed: ";

/** No two are alike: a look at the tables settles the claim that it was made for, and no later one. */
export const pendingText = ({ from, to }: PendingClaim): string =>
  `${PREFIX}${JSON.stringify({ from, to, by: crypto.randomUUID() })}`;

/** null: it is a part. Throws SyntaxError. */
export function readPending(text: string): PendingClaim | null {
  return text.startsWith(PREFIX) ? (JSON.parse(text.slice(PREFIX.length)) as PendingClaim) : null;
}
