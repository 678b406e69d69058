import { kafkaOptions } from "@cascade/shared/config";
import { CascadeError, describeError } from "@cascade/shared/errors";
import { createLogger } from "@cascade/shared/logging";
import { EXIT } from "@cascade/shared/service";
import { readRouterConfig } from "./config.ts";
import { UsageError } from "./dead-letters-options.ts";
import { runningCopies } from "./kafka/copy-states.ts";
import { openSchemaTopic } from "./kafka/schema-topic.ts";
import { streamEnd } from "./kafka/stream-end.ts";
import { reshard } from "./reshard.ts";
import { RESHARD_USAGE, readReshardOptions } from "./reshard-options.ts";

/** Gives a part of a shard to replicas beside it. */

const NAME = "reshard";
const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(args: readonly string[]): Promise<number> {
  const options = readReshardOptions(args);
  if (options === null) {
    say(RESHARD_USAGE);
    return EXIT.stopped;
  }
  const config = readRouterConfig(process.env);
  const { KAFKA_TOPIC_PREFIX: prefix, ROUTER_TABLES: tables, replicaName } = config;
  const kafka = kafkaOptions(config, NAME, createLogger(NAME, "error"));
  await using replica = await config.REPLICA_URL.open();
  await using schemas = await openSchemaTopic({ kafka, prefix, groupId: `${prefix}.${replicaName}` });
  await reshard(
    {
      replica,
      name: replicaName,
      beside: options.beside.map((target) => ({ name: target.defaultName, open: () => target.open() })),
      schemas,
      end: () => streamEnd({ kafka, prefix, matches: (name) => tables.matches(name) }),
      copies: () => runningCopies({ kafka, prefix, groupId: `${prefix}.${replicaName}` }),
      say,
      pageRows: config.ROUTER_BATCH_ROWS,
    },
    options,
  );
  return EXIT.stopped;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  if (error instanceof CascadeError) process.stderr.write(`${error.advice}\n`);
  if (error instanceof UsageError) process.stderr.write(`\n${RESHARD_USAGE}`);
  const refused = error instanceof UsageError || (error instanceof CascadeError && error.verdict === "refuse");
  process.exit(refused ? EXIT.refused : EXIT.failed);
}
