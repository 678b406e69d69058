import { randomUUID } from "node:crypto";
import { kafkaOptions } from "@cascade/shared/config";
import { CascadeError, describeError } from "@cascade/shared/errors";
import { createLogger } from "@cascade/shared/logging";
import { EXIT } from "@cascade/shared/service";
import { encodeSnapshotRequest } from "@cascade/shared/snapshot-request";
import { formatTableName } from "@cascade/shared/topic";
import { type CdcConfig, readCdcConfig } from "./config.ts";
import { openSignals } from "./kafka/signals.ts";
import { readSnapshotOptions, SNAPSHOT_USAGE, type SnapshotOptions, UsageError } from "./snapshot/command-options.ts";
import type { SignalLog } from "./snapshot/signal-log.ts";
import { isStateKey, type StateMessage, stateMessageOf } from "./snapshot/signals.ts";

/** Asks the running cdc for a snapshot, and tells how it gets on. */

const SILENCE_MS = 5_000;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(args: readonly string[]): Promise<number> {
  const options = readSnapshotOptions(args);
  if (options === null) {
    say(SNAPSHOT_USAGE);
    return EXIT.stopped;
  }
  const config = readCdcConfig(process.env);
  await using signals = await openSignals({
    kafka: kafkaOptions(config, "cdc-snapshot", createLogger("cdc-snapshot", "error")),
    prefix: config.KAFKA_TOPIC_PREFIX,
    replicationFactor: config.KAFKA_REPLICATION_FACTOR,
    writer: "anybody",
  });
  return await ask(signals, config, options);
}

async function ask(signals: SignalLog, config: CdcConfig, { request, wait }: SnapshotOptions): Promise<number> {
  const key = randomUUID();
  await signals.write([{ key, value: encodeSnapshotRequest(request) }]);
  say(`asked for as ${key}`);
  if (!wait) return EXIT.stopped;
  const silence = setTimeout(
    () => say(`no cdc of "${config.KAFKA_TOPIC_PREFIX}" has answered yet: the request waits for it`),
    SILENCE_MS,
  );
  const states = new Map<number, StateMessage>();
  const never = new AbortController().signal;
  for (;;) {
    for (const message of await signals.next(never)) {
      const state = isStateKey(message.key) && message.value !== null ? stateMessageOf(message.value) : null;
      if (state?.request !== key) continue;
      clearTimeout(silence);
      states.set(state.oid, state);
      say(lineOf(state));
    }
    const all = [...states.values()];
    if (all.length > 0 && all.every(({ status }) => status === "done" || status === "failed"))
      return all.every(({ status }) => status === "done") ? EXIT.stopped : EXIT.failed;
  }
}

function lineOf({ schema, table, status, rows, estimatedRows, error }: StateMessage): string {
  const name = schema === "" ? "the request" : formatTableName({ schema, table });
  if (error !== null) return `${name}: ${status}, ${error.code}: ${error.message}; ${error.advice}`;
  const percent = estimatedRows === null || estimatedRows === 0 ? "" : ` of about ${estimatedRows}`;
  return `${name}: ${status}, ${rows}${status === "done" ? "" : percent} rows`;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  if (error instanceof CascadeError) process.stderr.write(`${error.advice}\n`);
  if (error instanceof UsageError) process.stderr.write(`\n${SNAPSHOT_USAGE}`);
  const refused = error instanceof UsageError || (error instanceof CascadeError && error.verdict === "refuse");
  process.exit(refused ? EXIT.refused : EXIT.failed);
}
