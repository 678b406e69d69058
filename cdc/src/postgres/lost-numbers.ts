import type { ChangeEvent, RowJson } from "@cascade/shared/change-event";
import type { ChangeSource, SourceMessage } from "../change-source.ts";
import type { ChangeDecoder } from "./change-decoder.ts";
import type { NumberReader, Reread } from "./number-reader.ts";

/**
 * The source with what wal2json before 2.6 lost put back: where it wrote null for what may be NaN or an infinity, the row is looked up in
 * its table before the event goes on (decision 0014). Costs nothing where no such null is.
 */
export function withLostNumbers(
  source: ChangeSource,
  decoder: Pick<ChangeDecoder, "takeLost">,
  reader: Pick<NumberReader, "read">,
): ChangeSource {
  return {
    async *messages(signal) {
      for await (const messages of source.messages(signal)) {
        const lost = decoder.takeLost();
        if (lost.length === 0) {
          yield messages;
          continue;
        }
        const reread = await reader.read(lost, signal);
        if (reread === null) return;
        yield putBack(messages, reread);
        // Once what came before it was handed over.
        if (reread.refused !== null) throw reread.refused.error;
      }
    },
    confirm: (through) => source.confirm(through),
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

/** The messages with their new rows, up to the first event that is refused. */
export function putBack(messages: readonly SourceMessage[], { after, refused }: Reread): readonly SourceMessage[] {
  const whole: SourceMessage[] = [];
  for (const message of messages) {
    if (message.kind !== "change") {
      whole.push(message);
      continue;
    }
    if (message.event === refused?.event) break;
    const row = after.get(message.event);
    whole.push(row === undefined ? message : { kind: "change", event: withAfter(message.event, row) });
  }
  return whole;
}

const withAfter = (event: ChangeEvent, after: RowJson): ChangeEvent => ({ ...event, after });
