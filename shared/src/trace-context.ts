import { type SpanContext, TraceFlags } from "@opentelemetry/api";

/** W3C Trace Context, version 00: what travels in the header `traceparent`. */
const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

export function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${(traceFlags & 0xff).toString(16).padStart(2, "0")}`;
}

/** Of a text in that form: its flags' lowest bit. Cheap, for those that look at many. */
export const isSampled = (traceparent: string): boolean =>
  (Number.parseInt(traceparent.slice(-1), 16) & TraceFlags.SAMPLED) !== 0;

/** null for anything that is not a traceparent: a foreign header is no reason to stop. */
export function parseTraceparent(text: string): SpanContext | null {
  const match = TRACEPARENT.exec(text);
  if (!match) return null;
  const [, traceId = "", spanId = "", flags = "0"] = match;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED, isRemote: true };
}
