import type { Random } from "./random.ts";

const words = [
  ..."lamp chair café Straße naïve тест 東京 🚲 river stone copper quiet amber linen walnut signal harbour".split(" "),
  "it's",
  'a "quoted" one',
  "back\\slash",
  "tab\there",
  "two\nlines",
] as const;
const first = words[0] ?? "lamp";

/** Values of every column type, with what is awkward in each. Of the kinds that every engine can hold: no NaN, no negative zero. */
export interface ShopValues {
  words(count: number): string;
  /** Too long to stay in its row. */
  longText(): string;
  price(): string;
  float(): number;
  date(): string;
  json(): string;
  textArray(): readonly (string | null)[];
  bytes(): Buffer;
  uuid(): string;
  sku(): string;
}

export function shopValues(random: Random): ShopValues {
  const word = (): string => words[random.between(0, words.length - 1)] ?? first;
  const phrase = (count: number): string => Array.from({ length: count }, word).join(" ");
  return {
    words: phrase,
    longText: () => {
      const paragraph = `${phrase(40)}. `;
      return paragraph.repeat(random.between(12, 24)) + random.hex(32);
    },
    price: () => `${random.between(0, 9_999)}.${String(random.between(0, 99)).padStart(2, "0")}`,
    float: () => random.pick([0, 1e-7, 1e21, -12.5, 1 / 3, 123456789.125, random.fraction(), random.fraction() * 1e6]),
    date: () =>
      new Date(Date.UTC(random.between(1900, 2020), random.between(0, 11), random.between(1, 28))).toISOString().slice(0, 10),
    json: () =>
      JSON.stringify({
        size: random.between(1, 50),
        label: phrase(2),
        price: 1.1,
        deep: { flags: [true, null, random.between(0, 9)] },
      }),
    textArray: () => Array.from({ length: random.between(0, 3) }, () => random.pick([phrase(1), "", "NULL", "a,b", null])),
    bytes: () => Buffer.from(random.hex(2 * random.between(0, 40)), "hex"),
    uuid: () => random.hex(32).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"),
    sku: () => `${random.pick(["LA", "ch", "ÉT", "x y", "q'"])}-${random.hex(10)}`,
  };
}
