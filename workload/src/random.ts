/** Random choices that a seed repeats (mulberry32). */
export interface Random {
  /** From 0 up to 1, without 1. */
  fraction(): number;
  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number;
  chance(probability: number): boolean;
  pick<T>(values: readonly [T, ...T[]]): T;
  /** Lower-case hexadecimal digits. */
  hex(digits: number): string;
}

export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  const fraction = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (least: number, most: number): number => least + Math.floor(fraction() * (most - least + 1));
  return {
    fraction,
    between,
    chance: (probability) => fraction() < probability,
    pick: (values) => values[between(0, values.length - 1)] ?? values[0],
    hex: (digits) => Array.from({ length: digits }, () => between(0, 15).toString(16)).join(""),
  };
}

/** The seed asked for by CASCADE_SEED, to see a run again; else a new one. */
export function seedFromEnvironment(): number {
  const asked = process.env["CASCADE_SEED"];
  return asked === undefined || asked === "" ? Math.floor(Math.random() * 2 ** 31) : Number(asked);
}
