import type { SignalLog, SignalMessage } from "@cascade/cdc/src/snapshot/signal-log.ts";
import { Signal } from "@cascade/shared/signal";
import { signalsTopic } from "@cascade/shared/topic";
import type { SimulatedKafka } from "./kafka.ts";
import type { Network } from "./network.ts";
import { PREFIX } from "./slot-source.ts";

const TOPIC = signalsTopic(PREFIX);

/** `<prefix>.signals` as cdc reads and writes it. */
export async function openSignalLog(kafka: SimulatedKafka, network: Network): Promise<SignalLog> {
  // Whoever opens it fences all that did before, and what of theirs is still on its way (`FencedProducer`).
  const epoch = await network.call("kafka", () => kafka.fence(TOPIC));
  const found = await network.call("kafka", () => kafka.read(TOPIC, 0));
  let read = found.length;
  const arrived = new Signal();
  const unfollow = kafka.follow(TOPIC, () => arrived.notify());
  const messages = new Map<string, string>();
  for (const { key, value } of found) {
    if (value === null) messages.delete(key ?? "");
    else messages.set(key ?? "", value);
  }
  let writing: Promise<unknown> = Promise.resolve();
  return {
    messages,
    next: async (signal) => {
      const wake = () => arrived.notify();
      signal.addEventListener("abort", wake);
      while (kafka.end(TOPIC) === read && !signal.aborted) await arrived.wait();
      signal.removeEventListener("abort", wake);
      const news = kafka.read(TOPIC, read);
      read += news.length;
      return news.map(({ key, value }): SignalMessage => ({ key: key ?? "", value }));
    },
    write: (given) => {
      const write = () =>
        network.call("kafka", () => {
          kafka.checkFence(TOPIC, epoch);
          kafka.append(TOPIC, given);
        });
      const written = writing.then(write);
      writing = written.catch(() => undefined);
      return written;
    },
    [Symbol.asyncDispose]: async () => unfollow(),
  };
}
