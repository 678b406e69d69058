import { readFileSync } from "node:fs";

/**
 * Loaded before a service (BUN_OPTIONS=--preload): its wall clock is off by the milliseconds in the file of CASCADE_CLOCK_FILE, and jumps when
 * that changes. Its timers and `performance.now` go on as they do when a real clock is set.
 */
const file = process.env["CASCADE_CLOCK_FILE"] ?? "";
const RealDate = Date;
let offMs = 0;

const read = (): void => {
  const text = readFileSync(file, "utf8").trim();
  if (text !== "") offMs = Number(text); // empty while it is being written
};
read();
setInterval(read, 20).unref();

globalThis.Date = class extends RealDate {
  constructor(...args: readonly []) {
    super(...(args.length === 0 ? ([RealDate.now() + offMs] as unknown as []) : args));
  }
  static override now(): number {
    return RealDate.now() + offMs;
  }
} as DateConstructor;
