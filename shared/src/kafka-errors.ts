import { CascadeError, describeError } from "./errors.ts";
import { KAFKA_REACTIONS, KAFKAJS_REACTIONS, OTHER, type Reaction, TLS, UNAVAILABLE } from "./kafka-reactions.ts";
import { tlsErrorCode } from "./tls-errors.ts";

/**
 * What kafkajs threw, as the error that crosses a port; `doing` says what was tried ("publish to topic x"). Total: kafkajs itself throws
 * a bare TypeError when its last broker goes away, so an unknown error here is one more reason for a fresh client.
 */
export function kafkaError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  for (const cause of causesOf(error)) {
    const reaction = reactionTo(cause);
    if (reaction && reaction !== OTHER)
      return new CascadeError({ ...reaction, message: `cannot ${doing}: ${describeError(cause)}`, cause: error });
  }
  return new CascadeError({ ...OTHER, message: `cannot ${doing}: ${describeError(error)}`, cause: error });
}

/** Whether Kafka's protocol error `type` is what is behind `error`. */
export function isKafkaError(error: unknown, ...types: readonly string[]): boolean {
  return causesOf(error).some((cause) => types.includes(typeOf(cause)));
}

function reactionTo(error: Error): Reaction | undefined {
  if (tlsErrorCode(error) !== null) return TLS; // kafkajs passes its code on in a KafkaJSConnectionError
  return KAFKA_REACTIONS.get(typeOf(error)) ?? KAFKAJS_REACTIONS[error.name];
}

const typeOf = (error: Error): string => String((error as { readonly type?: unknown }).type ?? "");

/** The innermost first: kafkajs wraps what happened in what it gave up with. */
function causesOf(error: unknown): Error[] {
  const causes: Error[] = [];
  for (let current: unknown = error; current instanceof Error && !causes.includes(current); current = current.cause) {
    const several: unknown = (current as { readonly errors?: unknown }).errors;
    if (Array.isArray(several)) causes.unshift(...several.flatMap(causesOf));
    causes.unshift(current);
  }
  return causes;
}

/** Rejects with KAFKA_UNAVAILABLE when `promise` takes longer: kafkajs alone would retry a hanging broker for minutes. */
export async function withDeadline<T>(promise: Promise<T>, ms: number, doing: string): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new CascadeError({ ...UNAVAILABLE, message: `cannot ${doing}: no answer for ${ms / 1_000} s` }));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
    // When the deadline won, a later rejection concerns nobody.
    promise.catch(() => {});
  }
}
