import fc from "fast-check";

/** A name of 63 bytes, PostgreSQL's longest. */
const long = (character: string, lead: string): string => {
  const bytes = Buffer.byteLength(character);
  return lead + character.repeat(Math.floor((63 - lead.length) / bytes)) + "x".repeat((63 - lead.length) % bytes);
};

/** What SQL texts, JSON, JavaScript objects and the router's own statements might trip over. */
const COLUMN_NAMES: readonly string[] = [
  ...["a", "b", "c", "d", "select", "order", "table", "null", "default", "values", "Mixed Case", "ünïcödé", "💥", "İ"],
  ...['q"uote', '""', "back\\slash", "\\", "/* c */", "*/", "-- c", "it's", "''", "a.b", "a,b", "a;b", "(a)", "[a]", "`a`"],
  ...["$1", "$$", "?", ":a", "@a", "#", "%s", "%", " lead", "trail ", " ", "tab\t", "new\nline", "\r", "\u0001", "\u007f"],
  ...["constructor", "__proto__", "toString", "length", "rowid", "_rowid_", "new_0", "old_0", "x", "r", "excluded", "0", "1"],
  ...[
    "value",
    "name",
    "key",
    "op",
    "typeoid",
    '{"name":"a"',
    '"value":1',
    "\u2028",
    "e\u0301",
    "é",
    long("y", ""),
    long("é", "1"),
  ],
];

/** Topic names escape every byte that is no letter or digit, and Kafka allows 249 characters: long ones are of letters. */
const TABLE_NAMES: readonly string[] = [
  ...["t", "u", "orders", "select", "user", "Mixed Case", "ünïcödé 💥", 'q"uote', "back\\slash", "/* c */", "-- c", "it's"],
  ...["a.b", "a,b", "$1 ?", ":a", "new\nline", "__proto__", "constructor", "x", "r", "excluded", "%s*", "!t", " ", long("z", "")],
];

/** The number makes the tables of every history new to the replicas, whatever they held before. */
const SCHEMA_NAMES: readonly ((history: number) => string)[] = [
  (history) => `o${history}`,
  (history) => `Sché.ma ${history}`,
  (history) => `s"q\\${history}`,
];

export const columnName: fc.Arbitrary<string> = fc.constantFrom(...COLUMN_NAMES);

/** The names, with another for each that is taken. */
export function unlike(names: readonly string[]): readonly string[] {
  const taken = new Set<string>();
  return names.map((name, at) => {
    const free = taken.has(fold(name)) ? `other ${at}` : name;
    taken.add(fold(free));
    return free;
  });
}

/** SQLite takes names that differ in the case of ASCII letters for one, and refuses the second: such tables are not made. */
const fold = (name: string): string => name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

export interface PlacedName {
  /** Null: schema public, where the table's name holds the history's number. */
  readonly schema: number | null;
  readonly table: string;
}

export const placedName: fc.Arbitrary<PlacedName> = fc.record({
  schema: fc.option(fc.nat(SCHEMA_NAMES.length - 1), { freq: 3 }),
  table: fc.constantFrom(...TABLE_NAMES),
});

/** What no two tables of a history share. */
export const placeOf = ({ schema, table }: PlacedName): string => `${schema} ${fold(table)}`;

export function tableName({ schema, table }: PlacedName, history: number): { readonly schema: string; readonly table: string } {
  const named = SCHEMA_NAMES[schema ?? -1];
  if (named !== undefined) return { schema: named(history), table };
  const number = `_${history}`;
  return {
    schema: "public",
    table: Buffer.byteLength(table) + number.length > 63 ? `${table.slice(0, 63 - number.length)}${number}` : `${table}${number}`,
  };
}

export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;
