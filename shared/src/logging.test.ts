import { expect, test } from "bun:test";
import { join } from "node:path";

const SAYS = `
  const { createLogger } = await import(${JSON.stringify(join(import.meta.dir, "logging.ts"))});
  createLogger("cdc", "info").warn({ code: "KAFKA_UNAVAILABLE", advice: "start it" }, "no broker answers");`;
const command = [process.execPath, "-e", SAYS];

test("a line is JSON where a program reads it", async () => {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const line = JSON.parse(await new Response(child.stdout).text()) as Record<string, unknown>;
  expect(line).toMatchObject({ level: "warn", service: "cdc", code: "KAFKA_UNAVAILABLE", msg: "no broker answers" });
  expect(line["time"]).toMatch(/^\d{4}-\d\d-\d\dT/);
});

test("and for people where it is a terminal", async () => {
  const seen: Uint8Array[] = [];
  const child = Bun.spawn(command, {
    env: { ...process.env, NO_COLOR: "1" },
    terminal: { cols: 200, rows: 20, data: (_terminal, data) => void seen.push(data) },
  });
  expect(await child.exited).toBe(0);
  expect(Buffer.concat(seen).toString().trim()).toMatch(
    /^\[\d\d:\d\d:\d\d\.\d{3}\] WARN: cdc: no broker answers \{"code":"KAFKA_UNAVAILABLE","advice":"start it"\}$/,
  );
});
