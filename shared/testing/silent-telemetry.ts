import type { Telemetry } from "../src/telemetry.ts";

/** Counts nothing. The real one is OpenTelemetry's global of its process: a second one in the tests' own would have no metrics. */
export const SILENT_TELEMETRY: Telemetry = {
  add: () => undefined,
  record: () => undefined,
  observe: () => undefined,
  span: (_name, _options, work) => work(),
  traceparent: () => null,
  metricsText: async () => "",
  [Symbol.asyncDispose]: async () => undefined,
};
