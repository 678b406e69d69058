import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";

/** The real thing in a process of its own: exit statuses and signals are what it is about. */

const running: Fixture[] = [];
afterEach(() => {
  for (const fixture of running.splice(0)) fixture.process.kill("SIGKILL");
});

interface Fixture {
  readonly process: Bun.Subprocess<"ignore", "pipe", "inherit">;
  /** Resolves with the first log line that matches. */
  line(pattern: RegExp): Promise<Record<string, unknown>>;
  readonly lines: Record<string, unknown>[];
}

function start(environment: Readonly<Record<string, string>>): Fixture {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "../testing/service-fixture.ts")], {
    env: { PATH: process.env["PATH"] ?? "", ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines: Record<string, unknown>[] = [];
  const waiting: { readonly pattern: RegExp; readonly resolve: (line: Record<string, unknown>) => void }[] = [];
  void (async () => {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + chunk).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const line = JSON.parse(part) as Record<string, unknown>;
        lines.push(line);
        for (const { pattern, resolve } of waiting) if (pattern.test(part)) resolve(line);
      }
    }
  })();
  const fixture: Fixture = {
    process: child,
    lines,
    line: (pattern) => {
      const found = lines.find((line) => pattern.test(JSON.stringify(line)));
      return found ? Promise.resolve(found) : new Promise((resolve) => waiting.push({ pattern, resolve }));
    },
  };
  running.push(fixture);
  return fixture;
}

async function get(fixture: Fixture, path: string): Promise<Response> {
  const { http } = await fixture.line(/fixture started/);
  return fetch(`http://${http}${path}`);
}

async function untilReady(fixture: Fixture): Promise<void> {
  while (!(await get(fixture, "/health/ready")).ok) await Bun.sleep(10);
}

test("asked to stop it stops with 0", async () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    const fixture = start({ BEHAVIOUR: "work" });
    await untilReady(fixture);
    fixture.process.kill(signal);
    expect(await fixture.process.exited).toBe(0);
  }
});

test("past the deadline, or asked twice, it ends with 1", async () => {
  const late = start({ BEHAVIOUR: "hang", SHUTDOWN_TIMEOUT_MS: "50" });
  await untilReady(late);
  late.process.kill("SIGTERM");
  expect(await late.process.exited).toBe(1);
  const twice = start({ BEHAVIOUR: "hang", SHUTDOWN_TIMEOUT_MS: "60000" });
  await untilReady(twice);
  twice.process.kill("SIGTERM");
  await twice.line(/finishing the batch in hand/);
  twice.process.kill("SIGTERM");
  expect(await twice.process.exited).toBe(1);
});

test("while it is still opening its ports nothing holds up its end", async () => {
  const fixture = start({ BEHAVIOUR: "opening", SHUTDOWN_TIMEOUT_MS: "60000" });
  expect((await get(fixture, "/health/ready")).status).toBe(503);
  expect((await get(fixture, "/health/live")).status).toBe(200);
  fixture.process.kill("SIGTERM");
  expect(await fixture.process.exited).toBe(0);
});

test("what heals is tried again, and told once", async () => {
  const fixture = start({ BEHAVIOUR: "heal" });
  await fixture.line(/MAIN_DB_AWAY happened/);
  await untilReady(fixture);
  expect(await (await get(fixture, "/status")).json()).toMatchObject({
    service: "fixture",
    ready: true,
    reasons: [],
    lives: 3,
    lastError: { code: "MAIN_DB_AWAY", advice: "mend MAIN_DB_AWAY" },
  });
  expect(fixture.lines.filter((line) => line["code"] === "MAIN_DB_AWAY")).toHaveLength(1);
});

test("a refusal names every finding with its cure, and ends with 78", async () => {
  const fixture = start({ BEHAVIOUR: "refuse" });
  expect(await fixture.process.exited).toBe(78);
  await fixture.line(/PLUGIN_MISSING/);
  expect(fixture.lines.filter(({ level }) => level === "fatal")).toMatchObject([
    { code: "WAL_LEVEL", msg: "WAL_LEVEL happened", advice: "mend WAL_LEVEL" },
    { code: "PLUGIN_MISSING", msg: "PLUGIN_MISSING happened", advice: "mend PLUGIN_MISSING" },
  ]);
});

test("a wrong environment ends with 78, a fatal error and a bug with 1", async () => {
  expect(await start({}).process.exited).toBe(78);
  expect(await start({ BEHAVIOUR: "fatal" }).process.exited).toBe(1);
  const bug = start({ BEHAVIOUR: "bug" });
  expect(await bug.process.exited).toBe(1);
  expect(await bug.line(/a bug/)).toMatchObject({ code: "BUG", stack: expect.stringContaining("service-fixture.ts") });
});

test("a port that is taken is a refusal with its cure", async () => {
  const first = start({ BEHAVIOUR: "work" });
  const { http } = await first.line(/fixture started/);
  const second = start({ BEHAVIOUR: "work", HTTP_PORT: String(http).split(":")[1] ?? "" });
  expect(await second.process.exited).toBe(78);
  expect(await second.line(/HTTP_PORT/)).toMatchObject({ code: "HTTP_PORT", advice: expect.stringContaining("free HTTP_PORT") });
});

test("metrics are Prometheus text", async () => {
  const response = await get(start({ BEHAVIOUR: "work" }), "/metrics");
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await response.text()).toContain("process_resident_memory_bytes");
});
