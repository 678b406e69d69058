import { afterAll, expect, test } from "bun:test";
import { CascadeError } from "./errors.ts";
import { startTelemetry } from "./telemetry.ts";

const telemetry = await startTelemetry("test", "1.2.3");
afterAll(() => telemetry[Symbol.asyncDispose]());

test("metrics come under their Prometheus names with their labels, durations in buckets of seconds", async () => {
  telemetry.add("cascade_cdc_events_total", 2, { table: 'a."b"', op: "c" });
  telemetry.add("cascade_cdc_events_total", 3, { table: 'a."b"', op: "c" });
  telemetry.record("cascade_cdc_publish_duration_seconds", 0.004);
  let lag = 1.5;
  telemetry.observe("cascade_cdc_lag_seconds", () => [{ value: lag }]);
  const lines = (await telemetry.metricsText()).split("\n");
  expect(lines).toContain('cascade_cdc_events_total{table="a.\\"b\\"",op="c"} 5');
  expect(lines).toContain('cascade_cdc_publish_duration_seconds_bucket{le="0.0025"} 0');
  expect(lines).toContain('cascade_cdc_publish_duration_seconds_bucket{le="0.005"} 1');
  expect(lines).toContain("cascade_cdc_lag_seconds 1.5");
  expect(lines).toContain('cascade_build_info{version="1.2.3"} 1');
  expect(lines.some((line) => /^process_resident_memory_bytes [1-9]/.test(line))).toBe(true);
  expect(lines.some((line) => /^process_cpu_seconds_total [0-9.]+$/.test(line))).toBe(true);
  lag = 0;
  expect((await telemetry.metricsText()).split("\n")).toContain("cascade_cdc_lag_seconds 0");
});

test("what is not told any more is gone from the next reading on; counters stay", async () => {
  let tables = ["a", "b"];
  telemetry.observe("cascade_router_held_keys", () => tables.map((table) => ({ value: 1, labels: { table } })));
  telemetry.add("cascade_cdc_transactions_total", 3);
  const told = async () =>
    (await telemetry.metricsText()).split("\n").filter((line) => /^cascade_(router_held|cdc_transactions)/.test(line));
  expect(await told()).toEqual([
    'cascade_router_held_keys{table="a"} 1',
    'cascade_router_held_keys{table="b"} 1',
    "cascade_cdc_transactions_total 3",
  ]);
  tables = ["b"];
  expect(await told()).toEqual(['cascade_router_held_keys{table="b"} 1', "cascade_cdc_transactions_total 3"]);
  tables = [];
  expect(await told()).toEqual(["cascade_cdc_transactions_total 3"]);
});

test("each of thousands of tables has its own series", async () => {
  const tables = 5_000;
  for (let n = 0; n < tables; n++) telemetry.add("cascade_router_events_total", n, { table: `t${n}` });
  telemetry.observe("cascade_router_lag_events", () =>
    Array.from({ length: tables }, (_, n) => ({ value: n, labels: { topic: `t${n}` } })),
  );
  const text = await telemetry.metricsText();
  expect(text.match(/^cascade_router_events_total\{table="t[0-9]+"\} [0-9]+$/gm)).toHaveLength(tables);
  expect(text.match(/^cascade_router_lag_events\{topic="t[0-9]+"\} [0-9]+$/gm)).toHaveLength(tables);
  expect(text).toContain('cascade_router_events_total{table="t4999"} 4999');
  expect(text).not.toContain("overflow");
});

test("a span goes on with the trace it is given, across awaits, and inner spans with it", async () => {
  const remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  expect(telemetry.traceparent()).toBeNull();
  const options = { kind: "consumer", attributes: {}, traceparents: [remote, "nonsense"] } as const;
  const seen = await telemetry.span("cascade.apply", options, async () => {
    const outer = telemetry.traceparent();
    await Bun.sleep(1);
    const inner = await telemetry.span("cascade.commit", { kind: "client", attributes: {} }, async () => telemetry.traceparent());
    return [outer, inner];
  });
  for (const traceparent of seen)
    expect(traceparent).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/);
  expect(seen[0]).not.toBe(seen[1]);
  expect(telemetry.traceparent()).toBeNull();
});

test("of several traces one that is sampled is gone on with", async () => {
  const [first, second] = ["11111111111111111111111111111111", "22222222222222222222222222222222"];
  const traceparents = [`00-${first}-b7ad6b7169203331-00`, `00-${second}-b7ad6b7169203331-01`];
  const options = { kind: "consumer", attributes: {}, traceparents } as const;
  const seen = await telemetry.span("cascade.apply", options, async () => telemetry.traceparent());
  expect(seen).toMatch(new RegExp(`^00-${second}-[0-9a-f]{16}-01$`));
  const none = { kind: "consumer", attributes: {}, traceparents: traceparents.slice(0, 1) } as const;
  expect(await telemetry.span("cascade.apply", none, async () => telemetry.traceparent())).toMatch(
    new RegExp(`^00-${first}-[0-9a-f]{16}-00$`),
  );
});

test("an error passes through its span", async () => {
  const error = new CascadeError({ code: "WAITING", verdict: "retry", message: "m", advice: "a" });
  const failing = telemetry.span("cascade.apply", { kind: "internal", attributes: {} }, () => Promise.reject(error));
  await expect(failing).rejects.toBe(error);
});
