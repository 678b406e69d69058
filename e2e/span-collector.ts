/** A span as it was exported. */
export interface ExportedSpan {
  readonly service: string;
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for none. */
  readonly parentSpanId: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly links: readonly { readonly traceId: string }[];
}

/** Takes what OTLP over HTTP sends as JSON: for tests that look at every span. containers-run.test.ts looks them up in a real Jaeger. */
export interface SpanCollector extends Disposable {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly endpoint: string;
  readonly spans: readonly ExportedSpan[];
  /** Everything that came, as it came. */
  readonly received: readonly string[];
}

export function collectSpans(): SpanCollector {
  const spans: ExportedSpan[] = [];
  const received: string[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    routes: {
      "/v1/traces": {
        POST: async (request) => {
          const text = await request.text();
          received.push(text);
          const { resourceSpans } = JSON.parse(text) as OtlpTraces;
          for (const { resource, scopeSpans } of resourceSpans)
            for (const span of scopeSpans.flatMap((scope) => scope.spans))
              spans.push(exported(String(attributesOf(resource.attributes)["service.name"]), span));
          return Response.json({});
        },
      },
    },
  });
  return { endpoint: `http://127.0.0.1:${server.port}`, spans, received, [Symbol.dispose]: () => void server.stop(true) };
}

interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
}

interface OtlpSpan extends Pick<ExportedSpan, "name" | "traceId" | "spanId"> {
  readonly parentSpanId?: string;
  readonly attributes: readonly OtlpAttribute[];
  readonly links?: readonly { readonly traceId: string }[];
}

interface OtlpAttribute {
  readonly key: string;
  readonly value: OtlpValue;
}

interface OtlpValue {
  readonly stringValue?: string;
  readonly intValue?: number | string;
  readonly arrayValue?: { readonly values: readonly OtlpValue[] };
}

const exported = (
  service: string,
  { name, traceId, spanId, parentSpanId = "", attributes, links = [] }: OtlpSpan,
): ExportedSpan => ({
  ...{ service, name, traceId, spanId, parentSpanId, links },
  attributes: attributesOf(attributes),
});

const attributesOf = (attributes: readonly OtlpAttribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, plain(value)]));

const plain = ({ stringValue, intValue, arrayValue }: OtlpValue): unknown =>
  stringValue ?? (intValue === undefined ? arrayValue?.values.map(plain) : Number(intValue));
