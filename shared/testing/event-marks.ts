import type { EventMarks } from "../src/change-event.ts";

/** Of an event that has others, which are added. */
export const NO_MARKS: EventMarks = {
  filling: false,
  fillingFor: null,
  replica: null,
  notReplica: null,
  snapshotId: null,
  movedFrom: null,
  movedTo: null,
};
