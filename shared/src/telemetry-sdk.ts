import { context, metrics, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { MeterProvider, type MetricReader, type ViewOptions } from "@opentelemetry/sdk-metrics";
import { TracerProvider } from "@opentelemetry/sdk-trace";

/** What was registered as OpenTelemetry's global providers. */
export interface Sdk {
  shutdown(): Promise<void>;
}

export interface SdkOptions {
  /** Its name where `OTEL_SERVICE_NAME` says no other. */
  readonly service: string;
  readonly reader: MetricReader;
  readonly views: ViewOptions[];
}

/**
 * Starts OpenTelemetry by the standard `OTEL_*` variables. All that can be asked for by them takes 13 MB of memory in every process
 * (exporters over gRPC, Zipkin, YAML): it is loaded where one of them is set.
 */
export async function startSdk(options: SdkOptions): Promise<Sdk> {
  const isConfigured = Object.entries(process.env).some(([name, value]) => name.startsWith("OTEL_") && value !== "");
  return isConfigured ? await startNodeSdk(options) : startProviders(options);
}

/** As the SDK does by default, but for what exports. Spans exist all the same: the traceparent in the messages lets whoever reads them go on with the trace. */
function startProviders({ reader, views }: SdkOptions): Sdk {
  const meters = new MeterProvider({ readers: [reader], views });
  const tracers = new TracerProvider();
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  metrics.setGlobalMeterProvider(meters);
  trace.setGlobalTracerProvider(tracers);
  return { shutdown: async () => void (await Promise.all([meters.shutdown(), tracers.shutdown()])) };
}

async function startNodeSdk({ service, reader, views }: SdkOptions): Promise<Sdk> {
  // The default detectors put the whole command line into spans.
  process.env["OTEL_NODE_RESOURCE_DETECTORS"] ??= "env";
  const { NodeSDK } = await import("@opentelemetry/sdk-node");
  const sdk = new NodeSDK({
    serviceName: process.env["OTEL_SERVICE_NAME"] || service,
    instrumentations: [],
    metricReaders: [reader],
    views,
    logRecordProcessors: [],
    ...(isExported() ? { traceExporter: await otlpExporter() } : { spanProcessors: [DISCARD] }),
  });
  sdk.start();
  return sdk;
}

function isExported(): boolean {
  const endpoint = process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] || process.env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
  return Boolean(endpoint) && process.env["OTEL_TRACES_EXPORTER"] !== "none";
}

async function otlpExporter() {
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
  return new OTLPTraceExporter();
}

const DISCARD = {
  onStart: () => {},
  onEnd: () => {},
  forceFlush: async () => {},
  shutdown: async () => {},
};
