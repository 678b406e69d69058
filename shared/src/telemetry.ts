import {
  type Attributes,
  context,
  type Link,
  metrics,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from "@opentelemetry/api";
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { CascadeError } from "./errors.ts";
import {
  type CounterName,
  DURATION_BUCKETS,
  type GaugeName,
  type HistogramName,
  INSTRUMENTS,
  type SpanName,
} from "./instruments.ts";
import { ScrapeReader } from "./scrape-reader.ts";
import { type Sdk, startSdk } from "./telemetry-sdk.ts";
import { formatTraceparent, parseTraceparent } from "./trace-context.ts";

export type Labels = Readonly<Record<string, string | number>>;

export interface Reading {
  readonly value: number;
  readonly labels?: Labels;
}

/** By OpenTelemetry's semantic conventions, and `cascade.*` beside them. */
export type SpanAttributes = Readonly<Record<string, string | number | readonly string[]>>;

export interface SpanOptions {
  readonly kind: "internal" | "producer" | "consumer" | "client";
  readonly attributes: SpanAttributes;
  /** W3C traceparents: the first that is sampled (or else the first) becomes the parent where there is none yet, all others are linked. */
  readonly traceparents?: readonly string[];
}

/** What a service tells of itself. Per batch, never per row: a span costs 3 µs, a counter 0.2 µs (facts.md §3.1). */
export interface Telemetry extends AsyncDisposable {
  add(name: CounterName, value: number, labels?: Labels): void;
  /** A duration in seconds. */
  record(name: HistogramName, seconds: number, labels?: Labels): void;
  /** `read` is asked at every scrape. */
  observe(name: GaugeName, read: () => readonly Reading[]): void;
  span<T>(name: SpanName, options: SpanOptions, work: () => Promise<T>): Promise<T>;
  /** Of the active span; null outside of one, or when telemetry is off. */
  traceparent(): string | null;
  /** Prometheus text. */
  metricsText(): Promise<string>;
}

const SHUTDOWN_MS = 1_000;
/** Of one metric. There are some for each table; past OpenTelemetry's own 2,000 they would be counted as one, which says of no table how it is. */
const MAX_SERIES = 1_000_000;

/** Starts OpenTelemetry by the standard `OTEL_*` variables. Without an endpoint nothing is exported and nothing complains. */
export async function startTelemetry(service: string, version: string): Promise<Telemetry> {
  const reader = new ScrapeReader();
  const views = [{ instrumentName: "*", aggregationCardinalityLimit: MAX_SERIES }];
  const sdk = await startSdk({ service, reader, views });
  return new OpenTelemetry(sdk, reader, version);
}

const KINDS = {
  internal: SpanKind.INTERNAL,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
  client: SpanKind.CLIENT,
} as const;

class OpenTelemetry implements Telemetry {
  readonly #sdk: Sdk;
  readonly #reader: ScrapeReader;
  readonly #serializer = new PrometheusSerializer("", false, undefined, true, true);
  readonly #meter = metrics.getMeter("cascade");
  readonly #tracer = trace.getTracer("cascade");
  readonly #counters = new Map<CounterName, ReturnType<typeof this.counter>>();
  readonly #histograms = new Map<HistogramName, ReturnType<typeof this.histogram>>();

  constructor(sdk: Sdk, reader: ScrapeReader, version: string) {
    this.#sdk = sdk;
    this.#reader = reader;
    this.observe("cascade_build_info", () => [{ value: 1, labels: { version } }]);
    this.observe("process_resident_memory_bytes", () => [{ value: process.memoryUsage.rss() }]);
    // Once: a wall clock that is set, or a second that is rounded otherwise, is no new start.
    const startedAt = Math.round(Date.now() / 1000 - process.uptime());
    this.observe("process_start_time_seconds", () => [{ value: startedAt }]);
    this.#meter
      .createObservableCounter("process_cpu_seconds_total", { description: INSTRUMENTS.process_cpu_seconds_total.help })
      .addCallback((result) => {
        const { user, system } = process.cpuUsage();
        result.observe((user + system) / 1e6);
      });
  }

  add(name: CounterName, value: number, labels?: Labels): void {
    let counter = this.#counters.get(name);
    if (counter === undefined) {
      counter = this.counter(name);
      this.#counters.set(name, counter);
    }
    counter.add(value, labels);
  }

  record(name: HistogramName, seconds: number, labels?: Labels): void {
    let histogram = this.#histograms.get(name);
    if (histogram === undefined) {
      histogram = this.histogram(name);
      this.#histograms.set(name, histogram);
    }
    histogram.record(seconds, labels);
  }

  observe(name: GaugeName, read: () => readonly Reading[]): void {
    this.#meter.createObservableGauge(name, { description: INSTRUMENTS[name].help }).addCallback((result) => {
      for (const { value, labels } of read()) result.observe(value, labels);
    });
  }

  async span<T>(name: SpanName, options: SpanOptions, work: () => Promise<T>): Promise<T> {
    const span = this.#startSpan(name, options);
    try {
      return await context.with(trace.setSpan(context.active(), span), work);
    } catch (error) {
      // The code only: a driver's message may quote values.
      const code = error instanceof CascadeError ? error.code : "BUG";
      span.setStatus({ code: SpanStatusCode.ERROR, message: code });
      span.setAttribute("error.type", code);
      throw error;
    } finally {
      span.end();
    }
  }

  #startSpan(name: SpanName, { kind, attributes, traceparents = [] }: SpanOptions): Span {
    const contexts = traceparents.map(parseTraceparent).filter((found) => found !== null);
    // Of a batch that merges several, one that is traced keeps it traced.
    const sampled = contexts.findIndex(({ traceFlags }) => (traceFlags & TraceFlags.SAMPLED) !== 0);
    const [parent] = trace.getActiveSpan() ? [] : contexts.splice(Math.max(sampled, 0), 1);
    const links: Link[] = contexts.map((linked) => ({ context: linked }));
    const around = parent ? trace.setSpanContext(context.active(), parent) : context.active();
    return this.#tracer.startSpan(name, { kind: KINDS[kind], attributes: attributes as Attributes, links }, around);
  }

  traceparent(): string | null {
    const span = trace.getActiveSpan();
    return span && trace.isSpanContextValid(span.spanContext()) ? formatTraceparent(span.spanContext()) : null;
  }

  async metricsText(): Promise<string> {
    if (process.env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true") return "# OTEL_SDK_DISABLED is true\n";
    const { resourceMetrics } = await this.#reader.collect();
    return this.#serializer.serialize(resourceMetrics);
  }

  private counter(name: CounterName) {
    return this.#meter.createCounter(name, { description: INSTRUMENTS[name].help });
  }

  private histogram(name: HistogramName) {
    return this.#meter.createHistogram(name, {
      description: INSTRUMENTS[name].help,
      advice: { explicitBucketBoundaries: DURATION_BUCKETS },
    });
  }

  /** A collector that is away must not hold up the end of the process (facts.md §3.1). */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.race([this.#sdk.shutdown().catch(() => {}), Bun.sleep(SHUTDOWN_MS)]);
  }
}
