export interface ReliabilityOptions {
  readonly histories: number;
  /** Of the first history; each next one has the next number. */
  readonly seed: number;
  /** No further history is begun after this long. */
  readonly minutes: number;
  /** Puts the figures into docs/reliability.md. */
  readonly write: boolean;
}

export const RELIABILITY_USAGE = `usage: npm run reliability -- [--histories N] [--seed N] [--minutes N] [--write]
  --histories N   how many random histories of faults (20)
  --seed N        seed of the first one, the next has N + 1 (a new one each time); with --histories 1 a history again
  --minutes N     begin no further one after this long (600)
  --write         put the figures into docs/reliability.md`;

/** null: help was asked for. Throws what is wrong with the arguments. */
export function readReliabilityOptions(args: readonly string[]): ReliabilityOptions | null {
  const options = { histories: 20, seed: Math.floor(Math.random() * 1_000_000), minutes: 600, write: false };
  const rest = args.filter((arg) => arg !== "--");
  for (let at = 0; at < rest.length; at++) {
    const name = rest[at];
    if (name === "--help" || name === "-h") return null;
    if (name === "--write") options.write = true;
    else if (name === "--histories" || name === "--seed" || name === "--minutes") {
      const text = rest[++at] ?? "";
      if (!/^\d+$/.test(text)) throw new Error(`${name} takes a whole number, not "${text}"`);
      options[name.slice(2) as "histories" | "seed" | "minutes"] = Number(text);
    } else throw new Error(`${name} is no option`);
  }
  return options;
}
