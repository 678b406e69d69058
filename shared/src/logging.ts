import { trace } from "@opentelemetry/api";
import { type DestinationStream, type Logger as PinoLogger, pino } from "pino";
import { CascadeError, describeError } from "./errors.ts";

export type Logger = PinoLogger;

/** Lines for people, where one looks on; loaded there alone. */
const pretty = process.stdout.isTTY ? (await import("pino-pretty")).default : null;

/** JSON lines on standard output, or lines for people where that is a terminal. Inside a span they carry its trace and span id. */
export function createLogger(service: string, level: string): Logger {
  return pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: traceIds,
    },
    destination(),
  );
}

function destination(): DestinationStream {
  if (pretty === null) return pino.destination({ fd: 1, sync: true });
  return pretty({
    destination: 1,
    sync: true,
    colorize: !process.env["NO_COLOR"],
    translateTime: "SYS:HH:MM:ss.l",
    ignore: "service,trace_id,span_id",
    messageFormat: "{service}: {msg}",
    singleLine: true,
  });
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
