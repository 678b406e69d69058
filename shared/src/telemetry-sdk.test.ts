import { expect, test } from "bun:test";
import { join } from "node:path";

/** In a process of its own: providers are global, and modules stay loaded. */
const TELLS = `
  const { startTelemetry } = await import(${JSON.stringify(join(import.meta.dir, "telemetry.ts"))});
  const telemetry = await startTelemetry("test", "1.0.0");
  telemetry.add("cascade_cdc_events_total", 2, { table: "t", op: "c" });
  const traceparent = await telemetry.span("cascade.publish", { kind: "internal", attributes: {} }, async () => telemetry.traceparent());
  const metrics = (await telemetry.metricsText()).split("\\n").filter((line) => !line.startsWith("process_"));
  const loaded = Object.keys(require.cache).some((path) => path.includes("sdk-node"));
  await telemetry[Symbol.asyncDispose]();
  console.log(JSON.stringify({ metrics, traceparent: /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/.exec(traceparent)?.[0].slice(-2), loaded }));`;

async function told(env: Readonly<Record<string, string>>): Promise<{ metrics: string[]; traceparent: string; loaded: boolean }> {
  const plain = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("OTEL_")));
  const child = Bun.spawn([process.execPath, "-e", TELLS], { env: { ...plain, ...env }, stdout: "pipe", stderr: "inherit" });
  return JSON.parse(await new Response(child.stdout).text());
}

test("without any OTEL variable metrics and spans are as with the whole SDK, which is not loaded", async () => {
  const [light, whole] = await Promise.all([told({}), told({ OTEL_SERVICE_NAME: "test" })]);
  expect([light.loaded, whole.loaded]).toEqual([false, true]);
  expect(light.metrics).toContain('cascade_cdc_events_total{table="t",op="c"} 2');
  expect(light.metrics).toEqual(whole.metrics);
  expect([light.traceparent, whole.traceparent]).toEqual(["01", "01"]);
});

test("a sampler that is asked for decides", async () => {
  expect((await told({ OTEL_TRACES_SAMPLER: "always_off" })).traceparent).toBe("00");
});
