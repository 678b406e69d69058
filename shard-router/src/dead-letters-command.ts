import { kafkaOptions } from "@cascade/shared/config";
import { CascadeError, describeError } from "@cascade/shared/errors";
import type { KafkaOptions } from "@cascade/shared/kafka";
import { createLogger } from "@cascade/shared/logging";
import { EXIT } from "@cascade/shared/service";
import { formatTableName, type TableName, tableOfTopic } from "@cascade/shared/topic";
import { ShardClaim } from "./claim-shard.ts";
import { type RouterConfig, readRouterConfig } from "./config.ts";
import { DEAD_LETTERS_USAGE, readDeadLettersOptions, UsageError } from "./dead-letters-options.ts";
import type { HeldKey } from "./held-keys.ts";
import { readDeadLetters } from "./kafka/dead-letter-reader.ts";
import { openSchemaTopic } from "./kafka/schema-topic.ts";
import { readsOf } from "./ownership.ts";
import { ProgressBook } from "./progress-book.ts";
import { discard, replay, type Selected } from "./replay.ts";
import type { Replica } from "./replica.ts";
import { TableBook } from "./table-book.ts";

/** Shows, applies or gives up what the routers of a replica have held back. */

const NAME = "dead-letters";
const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(args: readonly string[]): Promise<number> {
  const options = readDeadLettersOptions(args);
  if (options === null) {
    say(DEAD_LETTERS_USAGE);
    return EXIT.stopped;
  }
  const config = readRouterConfig(process.env);
  await using replica = await config.REPLICA_URL.open();
  const { KAFKA_TOPIC_PREFIX: prefix } = config;
  const selected: Selected = (key) => tableOfTopic(prefix, key.partition.topic) !== null && options.selects(prefix, key);
  switch (options.verb) {
    case "list":
      return list(config, (await replica.held()).filter(selected));
    case "replay":
      return await replayAll({ config, replica, kafka: kafkaOptions(config, NAME, createLogger(NAME, "error")) }, selected);
    case "discard":
      return await discardAll(config, replica, selected);
  }
}

const tableOf = ({ KAFKA_TOPIC_PREFIX: prefix }: RouterConfig, { partition }: HeldKey): string =>
  formatTableName(tableOfTopic(prefix, partition.topic) as TableName);

const changes = (count: number): string => `${count} ${count === 1 ? "change" : "changes"}`;
const keysOf = (count: number): string => `${count} ${count === 1 ? "key" : "keys"}`;

function list(config: RouterConfig, held: readonly HeldKey[]): number {
  for (const key of held.toSorted((a, b) => a.heldAtMs - b.heldAtMs)) {
    const since = new Date(key.heldAtMs).toISOString();
    say(`${tableOf(config, key)} ${key.text}: ${changes(key.events)} held back since ${since}`);
    say(`  ${key.cause.code}: ${key.cause.message}`);
    say(`  ${key.cause.advice}`);
  }
  say(`${keysOf(held.length)} held back of replica ${config.replicaName}`);
  return EXIT.stopped;
}

interface Replaying {
  readonly config: RouterConfig;
  readonly replica: Replica;
  readonly kafka: KafkaOptions;
}

async function replayAll({ config, replica, kafka }: Replaying, selected: (key: HeldKey) => boolean): Promise<number> {
  const { KAFKA_TOPIC_PREFIX: prefix, replicaName } = config;
  const claim = new ShardClaim(replica, config.ownership);
  await claim.check();
  await using schemas = await openSchemaTopic({ kafka, prefix, groupId: `${prefix}.${replicaName}` });
  const progress = new ProgressBook(replica);
  const tables = new TableBook({
    ...{ replica, prefix, policy: config.ROUTER_DDL, history: schemas.history },
    matches: () => true,
    ends: async () => null,
    reads: readsOf(config.ownership, schemas.history),
    moved: (advance) => progress.moved(advance),
    changed: (name, what) => say(`${formatTableName(name)}: ${what}`),
    agreeToBring: (schema) => claim.agreeToBring(schema),
    // The copy is asked for by the routers.
    isDividedAnew: (from, to, rewritten) => config.ownership.isDividedAnew(from, to, rewritten),
  });
  const letters: Parameters<typeof replay>[0]["letters"] = (take) =>
    readDeadLetters({ kafka, prefix, replica: replicaName }, take);
  const { released, failed } = await replay(
    { replica, replicaName, prefix, ownership: config.ownership, claim, schemas, tables, progress, letters },
    selected,
  );
  for (const key of released) say(`${tableOf(config, key)} ${key.text}: applied and released`);
  for (const { key, error } of failed) {
    say(`${tableOf(config, key)} ${key.text}: HELD BACK STILL: ${error.code}: ${error.message}`);
    say(`  ${error.advice}`);
  }
  say(`${keysOf(released.length)} released, ${keysOf(failed.length)} held back still`);
  return failed.length === 0 ? EXIT.stopped : EXIT.failed;
}

async function discardAll(config: RouterConfig, replica: Replica, selected: Selected): Promise<number> {
  const givingUp = (key: HeldKey): void => {
    const [table, bound] = [tableOf(config, key), quoted(key.text)];
    say(`${table} ${key.text}: giving up ${changes(key.events)}; once the replica takes the row, copy it again:`);
    say(`  bun run --cwd cdc snapshot -- --tables ${quoted(table)} --from ${bound} --to ${bound}`);
  };
  const keys = await discard({ replica, givingUp }, selected);
  say(`${keysOf(keys.length)} discarded`);
  if (keys.length === 0) return EXIT.stopped;
  say("");
  say("THE REPLICA IS NOT WHAT MAIN-DB IS in these rows until they are copied again.");
  say("A row that main-db has deleted does not come by a copy: delete it from the replica by hand.");
  return EXIT.stopped;
}

/** For a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  if (error instanceof CascadeError) process.stderr.write(`${error.advice}\n`);
  if (error instanceof UsageError) process.stderr.write(`\n${DEAD_LETTERS_USAGE}`);
  const refused = error instanceof UsageError || (error instanceof CascadeError && error.verdict === "refuse");
  process.exit(refused ? EXIT.refused : EXIT.failed);
}
