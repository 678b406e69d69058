import { expect, test } from "bun:test";
import type { ErrorCode } from "@cascade/shared/error-codes";
import { CascadeError } from "@cascade/shared/errors";
import { isOfTheRow } from "./poison.ts";

test("what an engine, a server or a right is to blame for is no row's", () => {
  const errors = (code: ErrorCode) => new CascadeError({ code, verdict: "stop-table", message: code, advice: "" });
  for (const code of ["UNSUPPORTED_VALUE", "CONSTRAINT_VIOLATED", "REPLICA_FUNCTION_FAILED", "MISSING_ROW"] as const)
    expect(isOfTheRow(errors(code))).toBe(true);
  const tables: readonly ErrorCode[] = [
    "REPLICA_TABLE_MISMATCH",
    "REPLICA_RIGHT_MISSING",
    "REPLICA_CHANGE_REFUSED",
    "REPLICA_FULL",
    "REPLICA_TIMEOUT",
  ];
  const others: readonly ErrorCode[] = [
    "REPLICA_UNAVAILABLE",
    "REPLICA_LOCKED",
    "REPLICA_ERROR",
    "UNSUPPORTED_TABLE",
    "MALFORMED_MESSAGE",
    "MALFORMED_EVENT",
    "UNKNOWN_SCHEMA",
  ];
  for (const code of [...tables, ...others]) expect(isOfTheRow(errors(code))).toBe(false);
});
