import { describe, expect, test } from "bun:test";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { duckdbHolds, duckdbType, structField } from "./duckdb-types.ts";
import { floatText } from "./float-text.ts";
import { holds, recordColumn, replicaType, untypmodded } from "./postgres-types.ts";
import { encoderFor, storageClass, storageIn } from "./sqlite-types.ts";

describe("PostgreSQL", () => {
  test.each([
    ["integer", "integer"],
    ["numeric(10,2)", "numeric(10,2)"],
    ["character(3)[]", "character(3)[]"],
    ["public.mood", "text"],
    ["regclass", "text"],
    ["regclass[]", "text"],
  ])("the replica's type for %s is %s", (type, expected) => {
    expect(replicaType({ ...columnSchema("c", "text"), type, typeOid: type.includes(".") ? 16_999 : 1000 })).toBe(expected);
  });

  test.each([
    ["numeric(10,2)", "numeric"],
    ["character varying(3)", "character varying"],
    ["character(5)", "bpchar"],
    ["character(5)[]", "bpchar[]"],
    ["bit(3)", '"bit"'],
    ["bit varying(3)", "bit varying"],
    ["timestamp(3) without time zone", "timestamp without time zone"],
    ["time(0) with time zone[]", "time with time zone[]"],
    ["interval day to second(3)", "interval"],
    ["interval(2)", "interval"],
    ['"char"', '"char"'],
    ['public."weird (1)"', 'public."weird (1)"'],
    ["ext.geometry(Point,4326)", "ext.geometry(Point,4326)"],
  ])("%s without its modifier is %s", (type, bare) => {
    expect(untypmodded(type)).toBe(bare);
  });

  const fitting: readonly (readonly [string, readonly string[]])[] = [
    ["integer", ["integer", "bigint", "numeric", "text", "character varying"]],
    ["bigint", ["bigint", "numeric", "text"]],
    ["real", ["real", "double precision", "text"]],
    ["numeric(10,2)", ["numeric(10,2)", "numeric", "text"]],
    ["character varying(10)", ["character varying(10)", "character varying(11)", "character varying", "text"]],
    [
      "timestamp(3) with time zone",
      ["timestamp(3) with time zone", "timestamp(6) with time zone", "timestamp with time zone", "text"],
    ],
    ["bytea", ["bytea"]],
    ["public.mood", ["public.mood", "text", "character varying"]],
    ["text[]", ["text[]", "text"]],
  ];
  test.each(fitting)("%s fits %j", (source, types) => {
    expect(types.filter((type) => !holds(columnSchema("c", source), type))).toEqual([]);
  });

  const misfitting: readonly (readonly [string, readonly string[]])[] = [
    ["integer", ["smallint", "real", "double precision", "numeric(5)", "character varying(3)", "boolean"]],
    ["bigint", ["integer", "double precision"]],
    ["double precision", ["real", "numeric"]],
    ["numeric(10,2)", ["numeric(10,3)", "numeric(9,2)", "double precision", "money"]],
    ["numeric", ["numeric(10,2)"]],
    ["text", ["character varying(10)", "character(10)", "name", "public.citext"]],
    ["character varying(10)", ["character varying(9)", "character(10)"]],
    ["character varying", ["character varying(100)"]],
    ["timestamp with time zone", ["timestamp without time zone", "timestamp(3) with time zone", "date"]],
    ["bytea", ["text", "character varying"]],
    ["public.mood", ["public.other", "integer"]],
    ["text[]", ["integer[]", "character varying(3)[]"]],
  ];
  test.each(misfitting)("%s fits none of %j", (source, types) => {
    expect(types.filter((type) => holds(columnSchema("c", source), type))).toEqual([]);
  });

  test.each([
    ["integer", "integer", "integer", "x.c", true],
    ["integer", "bigint", "bigint", "x.c", true],
    ["numeric(4,1)", "numeric(4,1)", "numeric", "x.c", false],
    ["double precision", "double precision", "double precision", "x.c", false],
    ["real", "text", "real", "x.c::text", true],
    ["bytea", "bytea", "text", "decode(x.c, 'base64')", true],
    ["character(5)", "character(5)", "text", "x.c::bpchar", false],
    ["jsonb", "jsonb", "text", "x.c::jsonb", false],
    ["public.mood", "public.mood", "text", "x.c::public.mood", false],
  ])("%s into %s is declared %s and read as %s", (source, type, declared, value, comparable) => {
    const column = recordColumn(columnSchema("c", source), type);
    expect([column.declared, column.value("x.c"), column.comparable]).toEqual([declared, value, comparable]);
  });
});

describe("SQLite", () => {
  test.each([
    ["boolean", "INTEGER"],
    ["bigint", "INTEGER"],
    ["oid", "INTEGER"],
    ["real", "ANY"],
    ["bytea", "BLOB"],
    ["numeric", "TEXT"],
    ["timestamp with time zone", "TEXT"],
    ["json", "TEXT"],
    ["integer[]", "TEXT"],
    ["public.mood", "TEXT"],
  ] as const)("%s is stored as %s", (type, expected) => {
    expect(storageClass(columnSchema("c", type))).toBe(expected);
  });

  /** Declared type, then what an integer, a double, a text and a bytea become in it: null is refused. */
  const affinities = [
    ["INTEGER", "INTEGER", null, null, null],
    ["bigint unsigned", "INTEGER", null, null, null],
    ["VARCHAR(10)", "TEXT", "TEXT", "TEXT", null],
    ["text", "TEXT", "TEXT", "TEXT", null],
    ["BLOB", "INTEGER", "ANY", "TEXT", "BLOB"],
    ["", "INTEGER", "ANY", "TEXT", "BLOB"],
    ["DOUBLE", null, "REAL", null, null],
    ["DECIMAL(10,2)", "INTEGER", null, null, null],
    ["DATETIME", "INTEGER", null, null, null],
    ["FLOATING POINT", "INTEGER", null, null, null], // "POINT" holds INT
  ] as const;
  test.each(affinities.map(([declared, ...expected]) => ({ declared, expected })))(
    "a column declared $declared",
    ({ declared, expected }) => {
      const sources = ["integer", "double precision", "text", "bytea"].map((type) => columnSchema("c", type));
      expect(sources.map((source) => storageIn(source, declared, false))).toEqual([...expected]);
    },
  );
  const strict = [
    ["INT", "INTEGER", null, null, null],
    ["integer", "INTEGER", null, null, null],
    ["REAL", null, "REAL", null, null],
    ["TEXT", "TEXT", "TEXT", "TEXT", null],
    ["BLOB", null, null, null, "BLOB"],
    ["ANY", "INTEGER", "ANY", "TEXT", "BLOB"],
  ] as const;
  test.each(strict.map(([declared, ...expected]) => ({ declared, expected })))(
    "a strict column declared $declared",
    ({ declared, expected }) => {
      const sources = ["integer", "double precision", "text", "bytea"].map((type) => columnSchema("c", type));
      expect(sources.map((source) => storageIn(source, declared, true))).toEqual([...expected]);
    },
  );

  test("binds wire values as their storage class", () => {
    const schema = tableSchema("t", { b: "boolean", n: "bigint", f: "double precision", x: "bytea", t: "text" });
    const bound = (name: string, storage: string, value: string | number | boolean | null) => {
      const source = schema.columns.find((column) => column.name === name) ?? columnSchema(name, "text");
      return (encoderFor(schema, source, storage) ?? ((given) => given))(value);
    };
    expect([bound("b", "INTEGER", true), bound("b", "INTEGER", false), bound("b", "TEXT", true)]).toEqual([1, 0, "true"]);
    expect([bound("n", "INTEGER", "-99999999"), bound("n", "INTEGER", "999999999"), bound("n", "TEXT", "7")]).toEqual([
      -99999999,
      999999999,
      "7",
    ]);
    expect(bound("n", "INTEGER", "4294967296")).toBe(4294967296n);
    expect([bound("f", "REAL", 1.5), bound("f", "REAL", "-Infinity"), bound("f", "TEXT", "NaN"), bound("f", "TEXT", -0)]).toEqual(
      [1.5, -Infinity, "NaN", "-0"],
    );
    expect([1.5, "NaN", "-Infinity", -0].map((value) => bound("f", "ANY", value))).toEqual([1.5, "NaN", -Infinity, -0]);
    expect(bound("x", "BLOB", "AP8=")).toEqual(new Uint8Array([0, 255]));
    for (const name of ["b", "n", "f", "x", "t"])
      expect(
        bound(name, storageClass(schema.columns.find((c) => c.name === name) ?? columnSchema(name, "text")), null),
      ).toBeNull();
  });

  test.each([
    [0.1, 701, "0.1"],
    [0.0001, 701, "0.0001"],
    [0.00001, 701, "1e-05"],
    [1.5e-7, 701, "1.5e-07"],
    [123456789012345, 701, "123456789012345"],
    [1e15, 701, "1e+15"],
    [-1.7976931348623157e308, 701, "-1.7976931348623157e+308"],
    [5e-324, 701, "5e-324"],
    [999999, 700, "999999"],
    [1e6, 700, "1e+06"],
    [-0, 700, "-0"],
  ])("%p of type %p is written as PostgreSQL writes it", (value, typeOid, text) => {
    expect(floatText(value, typeOid)).toBe(text);
  });
});

describe("DuckDB", () => {
  test.each([
    ["bigint", "BIGINT"],
    ["oid", "UINTEGER"],
    ["numeric", "VARCHAR"],
    ["numeric(10,2)", "DECIMAL(10,2)"],
    ["numeric(39,2)", "VARCHAR"],
    ["numeric(4,-2)", "VARCHAR"],
    ["timestamp(3) with time zone", "TIMESTAMP WITH TIME ZONE"],
    ["jsonb", "VARCHAR"],
    ["integer[]", "VARCHAR"],
    ["public.mood", "VARCHAR"],
  ])("the replica's type for %s is %s", (type, expected) => {
    expect(duckdbType(columnSchema("c", type))).toBe(expected);
  });

  test.each([
    ["integer", ["INTEGER", "BIGINT", "HUGEINT", "VARCHAR"], ["SMALLINT", "UINTEGER", "DOUBLE", "DECIMAL(18,0)"]],
    ["numeric(10,2)", ["DECIMAL(10,2)", "DECIMAL(38,2)", "VARCHAR"], ["DECIMAL(10,3)", "DECIMAL(9,2)", "DOUBLE"]],
    ["real", ["FLOAT", "DOUBLE", "VARCHAR"], ["INTEGER"]],
    ["double precision", ["DOUBLE", "VARCHAR"], ["FLOAT"]],
    ["timestamp with time zone", ["TIMESTAMP WITH TIME ZONE", "VARCHAR"], ["TIMESTAMP", "DATE", "TIMESTAMP_NS"]],
    ["uuid", ["UUID", "VARCHAR"], ["BLOB"]],
    ["bytea", ["BLOB"], ["VARCHAR"]],
    ["public.mood", ["VARCHAR"], ["ENUM('a')"]],
  ] as const)("%s fits %j and not %j", (source, fitting, others) => {
    const column = columnSchema("c", source);
    expect(fitting.filter((type) => !duckdbHolds(column, type))).toEqual([]);
    expect(others.filter((type) => duckdbHolds(column, type))).toEqual([]);
  });

  test.each([
    ["date", "0044-03-15 BC", "0044-03-15 (BC)"],
    ["date", "-infinity", "-infinity"],
    ["timestamp with time zone", "0044-03-15 12:00:00+00 BC", "0044-03-15 (BC) 12:00:00+00"],
    ["timestamp without time zone", "294247-01-10 04:00:54.775806", "294247-01-10 04:00:54.775806"],
    ["timestamp without time zone", "99999-12-31 00:00:00", "99999-12-31 00:00:00"],
    ["timestamp without time zone", "infinity", "infinity"],
    ["double precision", -0, "-0"],
    ["double precision", "NaN", "NaN"],
  ])("%s %p is sent as %p", (type, value, sent) => {
    const source = columnSchema("c", type);
    const encode = structField({ source: tableSchema("t", { c: type }), sqlName: "t" }, source, duckdbType(source)).encode;
    expect(encode === null ? value : encode(value)).toBe(sent);
  });

  test.each([
    ["numeric(10,2)", "NaN", "NaN"],
    ["timestamp without time zone", "294247-01-10 04:00:54.775807", "a time after"],
    ["timestamp with time zone", "294247-01-10 04:00:54.775807+00", "a time after"],
  ])("%s %p is refused", (type, value, said) => {
    const source = columnSchema("c", type);
    const encode = structField({ source: tableSchema("t", { c: type }), sqlName: "t" }, source, duckdbType(source)).encode;
    expect(() => encode?.(value)).toThrow(`column c of table public.t holds ${said}`);
  });
});
