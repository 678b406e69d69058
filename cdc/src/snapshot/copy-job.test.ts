import { expect, test } from "bun:test";
import { stateFor, WAITING } from "./copy-job.ts";

test("a table that was copied the other way before is emptied first: of what is there rows may have gone unseen", () => {
  const begun = { ...WAITING, begun: true };
  expect(stateFor("keyed", begun)).toEqual({ ...WAITING, empties: true, mayBeEmpty: true });
  const byChunks = { ...begun, keyShape: "[]", after: "{}" };
  expect(stateFor("keyed", byChunks)).toBe(byChunks);
  expect(stateFor("keyed", WAITING)).toBe(WAITING);
  expect(stateFor("keyless", { ...WAITING, mayBeEmpty: true }).begun).toBe(true);
  expect(stateFor("keyless", WAITING).begun).toBe(false);
});
