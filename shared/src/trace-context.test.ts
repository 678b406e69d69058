import { expect, test } from "bun:test";
import { formatTraceparent, parseTraceparent } from "./trace-context.ts";

const TEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

test("a traceparent survives being read and written", () => {
  const context = parseTraceparent(TEXT);
  expect(context).toMatchObject({
    traceId: "0af7651916cd43dd8448eb211c80319c",
    spanId: "b7ad6b7169203331",
    traceFlags: 1,
    isRemote: true,
  });
  expect(context && formatTraceparent(context)).toBe(TEXT);
});

test.each([
  "",
  "x",
  TEXT.toUpperCase(),
  `${TEXT}-x`,
  TEXT.replace("0af7651916cd43dd8448eb211c80319c", "0".repeat(32)),
  TEXT.replace("b7ad6b7169203331", "0".repeat(16)),
])("%p is none", (text) => {
  expect(parseTraceparent(text)).toBeNull();
});
