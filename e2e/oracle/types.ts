import {
  arrays,
  bits,
  bytes,
  dates,
  decimals,
  doubles,
  integers,
  intervals,
  jsonbs,
  jsons,
  type Literals,
  mixed,
  numerics,
  of,
  reals,
  texts,
  times,
  timestamps,
  timestampsWithZone,
  timesWithZone,
  uuids,
} from "./literals.ts";

export interface ColumnType {
  /** As a CREATE TABLE writes it. */
  readonly sql: string;
  readonly literals: Literals;
  /** Has an order, so that it may be in a key or in a unique index. */
  readonly ordered: boolean;
  /** For types that may be stored out of line: SQL of a value made of `text`, which is SQL of a long text. */
  readonly long?: (text: string) => string;
  /** Values that some engine might take for one: such a family often makes up a column. */
  readonly alike?: readonly string[];
  /** A domain over an enum has no `=` of its own. */
  readonly comparedAs?: string;
}

/** Where the types, collations and extensions of the generated tables live. */
export const TYPES_SCHEMA = "oracle types";
const own = (name: string): string => `"${TYPES_SCHEMA}".${name}`;

/** Made once in main-db. */
export const TYPES_DDL = `
  CREATE SCHEMA "${TYPES_SCHEMA}";
  CREATE EXTENSION hstore SCHEMA "${TYPES_SCHEMA}";
  CREATE EXTENSION citext SCHEMA "${TYPES_SCHEMA}";
  CREATE EXTENSION ltree SCHEMA "${TYPES_SCHEMA}";
  CREATE COLLATION ${own("ignorant")} (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
  CREATE TYPE ${own(`"Mo.od ""M\\"""`)} AS ENUM ('so so', 'it''s "ok"', 'SO SO', '', 'é💥');
  CREATE DOMAIN ${own("d_int")} AS integer CHECK (VALUE > -1000000);
  CREATE DOMAIN ${own("d_price")} AS numeric(8,2);
  CREATE DOMAIN ${own("d_text")} AS text NOT NULL DEFAULT 'd';
  CREATE DOMAIN ${own("d_deep")} AS ${own("d_price")} CHECK (VALUE >= 0);
  CREATE DOMAIN ${own("d_bytes")} AS bytea;
  CREATE DOMAIN ${own("d_bool")} AS boolean;
  CREATE DOMAIN ${own("d_float")} AS double precision;
  CREATE DOMAIN ${own("d_real")} AS real;
  CREATE DOMAIN ${own("d_time")} AS timestamptz;
  CREATE DOMAIN ${own("d_array")} AS text[];
  CREATE DOMAIN ${own("d_char")} AS char(4);
  CREATE DOMAIN ${own("d_mood")} AS ${own(`"Mo.od ""M\\"""`)};
  CREATE TYPE ${own("pair")} AS (a int, "b c" text, d numeric);
  CREATE TYPE ${own("span")} AS RANGE (subtype = double precision, multirange_type_name = ${own("spans")});
`;

const mood = own(`"Mo.od ""M\\"""`);
const moods = of("so so", `it's "ok"`, "SO SO", "", "é💥");
const pairs = of('(1,"a ""q"", b",1.0)', "(1,,)", '(1,"",1.00)', "(,,)", '(2,"\\\\",-0.5)', "(1,a,1)", "(1,A,1)");

const ordered = (sql: string, literals: Literals, long?: ColumnType["long"]): ColumnType =>
  long === undefined ? { sql, literals, ordered: true } : { sql, literals, ordered: true, long };
const unordered = (sql: string, literals: Literals, long?: ColumnType["long"]): ColumnType => ({
  ...ordered(sql, literals, long),
  ordered: false,
});

const plain = (text: string): string => text;
const longBytes = (text: string): string => `convert_to(${text}, 'UTF8')`;
const longArray = (text: string): string => `ARRAY[${text}, NULL, ${text}]`;

const NUMBERS: readonly ColumnType[] = [
  ordered("boolean", of("true", "false")),
  ordered("smallint", integers(-32_768n, 32_767n)),
  ordered("integer", integers(-(2n ** 31n), 2n ** 31n - 1n)),
  ordered("bigint", mixed(["9007199254740993", "-9007199254740993", "999999999"], integers(-(2n ** 63n), 2n ** 63n - 1n))),
  ordered("numeric", numerics, (text) => `repeat('7', 2 * length(${text}))::numeric`),
  ordered("numeric(12,4)", mixed(["0", "19.9", "19.9000", "-12345678.1234"], decimals(8, 4))),
  ordered("numeric(5,-2)", of("0", "100", "123456", "9999900", "-100")),
  ordered("numeric(3,5)", of("0", "0.00123", "-0.00999")),
  ordered("real", reals),
  ordered("double precision", doubles),
  ordered("money", mixed(["0", "-1234.50", "92233720368547758.07", "-92233720368547758.08"], decimals(9, 2))),
  ordered("oid", of("0", "1", "2147483648", "4294967295")),
  ordered("xid8", of("0", "18446744073709551615")),
  unordered("xid", of("0", "4294967295")),
  ordered("tid", of("(0,1)", "(4294967295,65535)")),
  ordered("pg_lsn", of("0/0", "0/1", "FFFFFFFF/FFFFFFFF")),
];

const TEXTS: readonly ColumnType[] = [
  ordered("text", texts(), plain),
  ordered(`text COLLATE ${own("ignorant")}`, texts(), plain),
  ordered("character varying", texts(), plain),
  ordered("character varying(10)", texts(10)),
  ordered("character(1)", texts(1)),
  ordered("character(5)", texts(5)),
  ordered("bpchar", texts(), plain),
  ordered('"char"', of("", "a", "A", " ", "'", "\\", "0")),
  ordered("name", of("", "a", "A", 'n"m', "é")),
  ordered("bytea", bytes, longBytes),
  ordered(own("citext"), texts(), plain),
  ordered(mood, moods),
  ordered("uuid", uuids),
  unordered("json", jsons, (text) => `json_build_object('long', ${text})`),
  ordered("jsonb", jsonbs, (text) => `jsonb_build_object('long', ${text})`),
  unordered("jsonpath", of("$", '$."a"[*] ? (@ > 1)', "strict $.a")),
  unordered(
    "xml",
    of("<a b='1'>é</a>", "", "text & no".replace("&", "&amp;"), '<?xml version="1.0"?><a/>', "<!-- c --><a><![CDATA[x]]></a>"),
  ),
  ordered("tsvector", of("", "'a':1 'b c':2A", "'a' 'A'", "'it''s' '\\\\'", "a b c")),
  ordered("tsquery", of("", "'a' & !'b'", "'a' <-> 'b':*A", "( a | b ) & c")),
  ordered(own("hstore"), of("", '"a"=>"1"', '"a"=>NULL', '"a"=>"1","b"=>"q\\"\\\\"', '"A"=>"1"')),
  ordered(own("ltree"), of("", "a", "A", "Top.Science", "a_1.b")),
];

/** Rounded up, the last timestamp becomes one that PostgreSQL writes and cannot read. */
const roundable = timestamps.filter((text) => !text.startsWith("294276"));

const TIMES: readonly ColumnType[] = [
  ordered("date", dates),
  ordered("time", times),
  ordered("time(2)", times),
  ordered("timetz", timesWithZone),
  ordered("timestamp", timestamps),
  ordered("timestamp(0)", roundable),
  ordered("timestamptz", timestampsWithZone),
  ordered("timestamptz(3)", timestampsWithZone),
  ordered("interval", intervals),
  ordered("interval year to month", of("1 year 2 mons", "14 mons", "-1 mons")),
  ordered("interval second(2)", of("1.239", "24:00:00", "-0.5")),
];

const OTHERS: readonly ColumnType[] = [
  ordered("bit", bits(1, 1)),
  ordered("bit(3)", bits(3, 3)),
  ordered("bit varying", bits(0, 12)),
  ordered("bit varying(8)", bits(0, 8)),
  ordered("inet", of("10.0.0.1", "10.0.0.1/8", "10.0.0.1/32", "::1", "::ffff:1.2.3.4/96", "0.0.0.0/0")),
  ordered("cidr", of("10.0.0.0/8", "10.0.0.0/16", "::/0", "192.168.1.0/24")),
  ordered("macaddr", of("08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff")),
  ordered("macaddr8", of("08:00:2b:01:02:03:04:05", "08:00:2b:ff:fe:01:02:03")),
  unordered("point", of("(1.5,-0)", "(0,0)", "(NaN,Infinity)", "(1e300,5e-324)")),
  unordered("line", of("{1,2,3}", "{0,-1,0.5}")),
  unordered("lseg", of("[(0,0),(1,1)]")),
  unordered("box", of("(1,1),(0,0)", "(-0,2),(-1,-1)")),
  unordered("path", of("((0,0),(1,1))", "[(0,0),(1,1),(2,0)]")),
  unordered("polygon", of("((0,0),(1,1),(2,0))")),
  unordered("circle", of("<(0,0),1>", "<(1.5,-2),0>")),
  ordered("int4range", of("empty", "[1,5)", "[1,4]", "(,)", "(,5)")),
  ordered("int8range", of("empty", "[1,9223372036854775807)")),
  ordered("numrange", of("empty", "[1.0,2]", "[1.00,2]", "(1,2.50)", "(,1e20)")),
  ordered("daterange", of("[2026-01-01,2026-02-01)", "(,infinity)", "empty")),
  ordered("tsrange", of('["2026-01-01 00:00:00",infinity]', "(,)")),
  ordered("tstzrange", of('["2026-01-01 00:00:00+00","2026-01-02 12:00:00.5+02")', "empty")),
  ordered("int4multirange", of("{}", "{[1,5),[7,9)}", "{[1,3),[3,5)}")),
  ordered("nummultirange", of("{}", "{[1.0,2),(3,4.50]}")),
  ordered(own("span"), of("empty", "[1,5)", "[-0,1]", "(-Infinity,NaN)")),
  ordered(own("spans"), of("{}", "{[1,5),[7,1e20)}")),
  ordered(own("pair"), pairs, (text) => `CAST(ROW(1, ${text}, 0) AS ${own("pair")})`),
  ordered("int2vector", of("", "1 2 3")),
  ordered("oidvector", of("", "1 4294967295")),
  unordered("pg_snapshot", of("10:20:10,14,15")),
];

const ARRAYS: readonly ColumnType[] = [
  ordered("integer[]", arrays(integers(-3n, 3n), ["{{1,2},{3,4}}", "[0:1]={1,2}", "[-1:0][5:6]={{1,NULL},{3,4}}"])),
  ordered("text[]", arrays(texts(), ['{a,"b,c",NULL,"NULL","","q\\"\\\\"}', "{{a,b},{c,d}}"]), longArray),
  ordered("numeric[]", arrays(numerics, ["{1.0,NaN}", "{1.00,NaN}"])),
  ordered("double precision[]", arrays(doubles, ["{NaN,-0,Infinity}", "{0}", "{-0}"])),
  ordered("boolean[]", arrays(of("t", "f"))),
  ordered("bytea[]", arrays(bytes)),
  ordered("character(3)[]", arrays(texts(3), ['{a,"b  "}'])),
  ordered("character varying(4)[]", arrays(texts(4))),
  ordered("timestamptz[]", arrays(timestampsWithZone)),
  ordered("date[]", arrays(dates)),
  ordered("interval[]", arrays(intervals)),
  ordered("jsonb[]", arrays(jsonbs)),
  ordered("uuid[]", arrays(uuids)),
  ordered("int4range[]", arrays(of("[1,5)", "empty"))),
  ordered(`${mood}[]`, arrays(moods)),
  ordered(`${own("pair")}[]`, arrays(pairs)),
  ordered(`${own("d_int")}[]`, arrays(of("1", "2"))),
];

const DOMAINS: readonly ColumnType[] = [
  ordered(own("d_int"), of("0", "1", "-5", "2147483647")),
  ordered(own("d_price"), of("0", "12.3", "999999.99", "-0.01")),
  ordered(own("d_deep"), of("0", "1.5", "7.00")),
  ordered(own("d_text"), texts(), plain),
  ordered(own("d_bytes"), bytes, longBytes),
  ordered(own("d_bool"), of("true", "false")),
  ordered(own("d_float"), doubles),
  ordered(own("d_real"), reals),
  ordered(own("d_time"), timestampsWithZone),
  ordered(own("d_array"), arrays(texts()), longArray),
  ordered(own("d_char"), texts(4)),
  { ...ordered(own("d_mood"), moods), comparedAs: mood },
];

const LETTERS = ["a", "A", "á", "a ", "a  ", "ａ", "a\u0301", "ä"];
const ALIKE: Readonly<Record<string, readonly string[]>> = {
  text: LETTERS,
  [`text COLLATE ${own("ignorant")}`]: LETTERS,
  "character varying": LETTERS,
  "character varying(10)": LETTERS,
  "character(5)": LETTERS,
  bpchar: LETTERS,
  name: LETTERS,
  [own("citext")]: LETTERS,
  [own("d_text")]: LETTERS,
  [own("d_char")]: LETTERS,
  [own("ltree")]: ["a", "A", "a.a", "A.a"],
  [mood]: ["so so", "SO SO", ""],
  "text[]": ["{a}", "{A}", '{"a "}', "{á}"],
  numeric: ["1", "1.0", "1.00", "0", "-0.0"],
  "numeric[]": ["{1}", "{1.0}", "{1.00}"],
  numrange: ["[1.0,2]", "[1.00,2]", "[1,2]"],
  interval: ["1 day", "24:00:00", "1 mon", "30 days", "720:00:00"],
  jsonb: ['{"a": 1}', '{"a": 1.0}', '{"a": "1"}'],
  timetz: ["12:00:00+00", "13:00:00+01", "11:00:00-01"],
  bytea: ["\\x", "\\x00", "\\x0000", "\\x61", "\\x41"],
  "bit varying": ["", "0", "00"],
  inet: ["10.0.0.1", "10.0.0.1/8", "10.0.0.0/8"],
  [own("pair")]: ["(1,a,1)", "(1,A,1)", "(1,a,1.0)", '(1,"a ",1)'],
  [own("hstore")]: ['"a"=>"1"', '"A"=>"1"', '"a"=>"1 "'],
};

export const COLUMN_TYPES: readonly ColumnType[] = [...NUMBERS, ...TEXTS, ...TIMES, ...OTHERS, ...ARRAYS, ...DOMAINS].map(
  (type) => {
    const alike = ALIKE[type.sql];
    return alike === undefined ? type : { ...type, alike };
  },
);
export const ORDERED_TYPES: readonly ColumnType[] = COLUMN_TYPES.filter((type) => type.ordered);
/** Their values may be equal and look different, or look alike and be different: keys above all. */
export const ALIKE_TYPES: readonly ColumnType[] = COLUMN_TYPES.filter((type) => type.alike !== undefined);
/** Of those, the ones whose equal values look different on a replica too. */
export const RESPELT_TYPES: readonly ColumnType[] = ALIKE_TYPES.filter(({ sql }) =>
  /^(?:numeric|numrange|interval|jsonb)/.test(sql),
);
export const LONG_TYPES: readonly ColumnType[] = COLUMN_TYPES.filter((type) => type.long !== undefined);
