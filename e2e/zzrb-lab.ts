import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareReplica, compareShards, isEqual } from "@cascade/local/canonical-state.ts";
import { type Child, spawnChild } from "@cascade/local/child.ts";
import { repository } from "@cascade/local/paths.ts";
import { testMariadb, testReplicaPostgres } from "@cascade/local/servers.ts";
import type { RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import type { Engine, Pipeline } from "./pipeline.ts";

export interface Shard {
  readonly name: string;
  readonly url: string;
}
export class Shards implements AsyncDisposable {
  readonly #prefix: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "rb9-"));
  readonly #drops: (() => Promise<unknown>)[] = [];
  constructor(prefix: string) {
    this.#prefix = prefix;
  }
  async make(name: string, engine: Engine): Promise<Shard> {
    if (engine === "sqlite" || engine === "duckdb") return { name, url: `${engine}://${join(this.#folder, `${name}.db`)}` };
    const server = engine === "postgres" ? await testReplicaPostgres() : await testMariadb();
    if (server === null) throw new Error("no MariaDB");
    const database = `${this.#prefix}_${name}`;
    this.#drops.push(() => server.dropDatabase(database));
    return { name, url: await server.createDatabase(database) };
  }
  async [Symbol.asyncDispose](): Promise<void> {
    for (const drop of this.#drops) await drop().catch(() => undefined);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
export const router = (
  pipeline: Pipeline,
  { name, url }: Shard,
  shard: string | null,
  keys: string | null,
  env: Record<string, string> = {},
): Promise<Service<RouterStatus>> =>
  pipeline.router("postgres", {
    ...{ replicaUrl: url, replicaName: name },
    env: {
      ...(shard === null ? {} : { ROUTER_SHARD: shard }),
      ...(keys === null ? {} : { ROUTER_SHARD_KEYS: keys }),
      ...env,
    },
  });
export function run(pipeline: Pipeline, shard: Shard, script: string, args: readonly string[], env: Record<string, string> = {}, onLine?: (line: string) => void): Child {
  return spawnChild([process.execPath, join(repository, script), ...args], {
    cwd: repository,
    env: {
      ...process.env,
      ...{ KAFKA_BROKERS: pipeline.kafka.brokers, KAFKA_TOPIC_PREFIX: pipeline.name, REPLICA_URL: shard.url, REPLICA_NAME: shard.name },
      CDC_DATABASE_URL: pipeline.mainUrl,
      CDC_SLOT: pipeline.name,
      ROUTER_BATCH_ROWS: "100",
      ...env,
    },
    ...(onLine === undefined ? {} : { onLine }),
  });
}
export const RESHARD = "shard-router/src/reshard-command.ts";
export async function reshard(pipeline: Pipeline, shard: Shard, args: readonly string[], env: Record<string, string> = {}) {
  const child = run(pipeline, shard, RESHARD, args, env);
  const { code } = await child.exited;
  return { code, said: child.log() };
}
export const show = (text: string): void => void process.stderr.write(`${text}\n`);

export async function differences(pipeline: Pipeline, shards: readonly Shard[], everywhere: string | null, tables = "public.*") {
  const urls = shards.map(({ url }) => url);
  const found = [...(await compareShards(pipeline.mainUrl, urls, everywhere === null ? tables : `${tables},!${everywhere}`))];
  if (everywhere !== null) for (const url of urls) found.push(...(await compareReplica(pipeline.mainUrl, url, everywhere)));
  return found.filter((table) => !isEqual(table));
}
export async function untilWhole(pipeline: Pipeline, shards: readonly Shard[], everywhere: string | null = null, ms = 60_000): Promise<void> {
  let wrong: unknown = [];
  const ok = await until(
    async () => {
      try {
        const found = await differences(pipeline, shards, everywhere);
        wrong = found;
        return found.length === 0;
      } catch (error) {
        wrong = String(error);
        return false;
      }
    },
    ms,
    500,
  );
  if (!ok) throw new Error(`the shards are not main-db: ${JSON.stringify(wrong, null, 1)}\n${pipeline.logs()}`);
}
