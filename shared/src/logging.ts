import { trace } from "@opentelemetry/api";
import { type Logger as PinoLogger, pino } from "pino";
import { CascadeError, describeError } from "./errors.ts";

export type Logger = PinoLogger;

/** JSON lines on standard output. Inside a span they carry its trace and span id. */
export function createLogger(service: string, level: string): Logger {
  return pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: traceIds,
    },
    pino.destination({ fd: 1, sync: true }),
  );
}

function traceIds(): object {
  const context = trace.getActiveSpan()?.spanContext();
  return context ? { trace_id: context.traceId, span_id: context.spanId } : {};
}

/** An error as fields of a log line or of /status: what it is and what to do; a stack only for what is a bug. */
export function errorFields(error: unknown): { readonly code: string; readonly advice?: string; readonly stack?: string } {
  if (error instanceof CascadeError) return { code: error.code, advice: error.advice };
  return { code: "BUG", ...(error instanceof Error && error.stack ? { stack: error.stack } : {}) };
}

/** For a message: the error with its causes, without values. */
export const errorText = describeError;
