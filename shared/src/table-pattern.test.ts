import { expect, test } from "bun:test";
import { parseTableFilter } from "./table-pattern.ts";

const matches = (filter: string, schema: string, table: string, fallback?: string) =>
  parseTableFilter(filter, fallback).matches({ schema, table });

test("stars stand for any characters within a part, and case counts", () => {
  expect(matches("public.*", "public", "orders")).toBe(true);
  expect(matches("public.*", "public2", "orders")).toBe(false);
  expect(matches("app_*.ord*s", "app_eu", "orders")).toBe(true);
  expect(matches("public.orders", "public", "Orders")).toBe(false);
  expect(matches("*.*", "a.b", "c\nd")).toBe(true);
});

test("an exclusion wins over every inclusion, wherever it stands", () => {
  expect(matches("!public.log*,public.*", "public", "log_2026")).toBe(false);
  expect(matches("public.*, !public.log*", "public", "orders")).toBe(true);
});

test("exclusions alone apply to the variable's default", () => {
  expect(matches("!public.log", "public", "orders", "public.*")).toBe(true);
  expect(matches("!public.log", "app", "orders", "public.*")).toBe(false);
});

test("a quoted part is literal: dots, commas, stars and doubled quotes", () => {
  const filter = 'public."we.ird ""T"", é",public."a*"';
  expect(matches(filter, "public", 'we.ird "T", é')).toBe(true);
  expect(matches(filter, "public", "a*")).toBe(true);
  expect(matches(filter, "public", "ab")).toBe(false);
});

test("regular expression characters in a name mean themselves", () => {
  expect(matches("public.a+b", "public", "aab")).toBe(false);
  expect(matches("public.a+b(c)$", "public", "a+b(c)$")).toBe(true);
});

test.each(["orders", "a.b.c", "public.", ".orders", "", " , ", 'public."open'])("%p is refused", (text) => {
  expect(() => parseTableFilter(text)).toThrow(SyntaxError);
});
