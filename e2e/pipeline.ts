import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isEqual } from "@cascade/local/canonical-state.ts";
import { untilCaughtUp } from "@cascade/local/catch-up.ts";
import type { LocalKafka } from "@cascade/local/kafka.ts";
import type { LocalPostgres } from "@cascade/local/postgres.ts";
import { testKafka, testMariadb, testPostgres, testReplicaPostgres } from "@cascade/local/servers.ts";
import type { CdcStatus, RouterStatus } from "@cascade/local/service-status.ts";
import { type CdcOptions, type RouterOptions, type Service, startCdc, startRouter } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { Client } from "pg";

export type Engine = "postgres" | "mariadb" | "sqlite" | "duckdb";

export interface PipelineOptions {
  /** Names the databases, the slot and the topics: every test has its own. */
  readonly name: string;
  readonly engines?: readonly Engine[];
  /** Makes the tables of main-db. */
  readonly schema: (client: Client) => Promise<unknown>;
  /** Further settings of cdc and of the routers. */
  readonly env?: Readonly<Record<string, string>>;
  /** Another Kafka than the one that the tests share. */
  readonly kafka?: LocalKafka;
  /** Replicas that are somewhere else than on the tests' servers. */
  readonly urls?: Partial<Record<Engine, string>>;
}

/** Main-db, Kafka, cdc and one router per replica, on the servers that the tests share. Whatever runs at the end is killed. */
export interface Pipeline extends AsyncDisposable {
  readonly name: string;
  readonly mainUrl: string;
  readonly main: LocalPostgres;
  readonly replicaServer: LocalPostgres;
  readonly kafka: LocalKafka;
  readonly replicas: readonly { readonly name: Engine; readonly url: string }[];
  /** Starts another cdc, or another router of the replica, with the same settings but for `more`. Doesn't wait for it. */
  cdc(more?: Partial<CdcOptions>): Promise<Service<CdcStatus>>;
  router(engine: Engine, more?: Partial<RouterOptions>): Promise<Service<RouterStatus>>;
  /** The last log lines of every service, for a failure to show. */
  logs(): string;
  /** Runs SQL on main-db. */
  sql(text: string, values?: readonly unknown[]): Promise<readonly Record<string, unknown>[]>;
  /** Waits until every replica (or those of `engines`) holds main-db's rows; fails with what is different when nothing moves any more. */
  expectEqual(stallMs?: number, engines?: readonly Engine[]): Promise<void>;
}

export async function openPipeline(options: PipelineOptions): Promise<Pipeline> {
  const { name, engines = ["postgres", "sqlite"], schema, env, urls = {} } = options;
  const [main, replicaServer, kafka] = await Promise.all([testPostgres(), testReplicaPostgres(), options.kafka ?? testKafka()]);
  const mainUrl = await main.createDatabase(name);
  const folder = mkdtempSync(join(tmpdir(), `cascade-${name}-`));
  const replicas: { readonly name: Engine; readonly url: string }[] = [];
  const mariadb = engines.includes("mariadb") ? await testMariadb() : null;
  const urlOf = async (engine: Engine): Promise<string> => {
    switch (engine) {
      case "postgres":
        return replicaServer.createDatabase(name);
      case "mariadb":
        if (mariadb === null) throw new Error("MariaDB is not installed");
        return mariadb.createDatabase(name);
      case "sqlite":
        return `sqlite://${join(folder, "replica.db")}`;
      case "duckdb":
        return `duckdb://${join(folder, "replica.duckdb")}`;
    }
  };
  for (const engine of engines) replicas.push({ name: engine, url: urls[engine] ?? (await urlOf(engine)) });
  const client = new Client({ connectionString: mainUrl });
  await client.connect();
  await schema(client);
  await client.end();

  const services: Service<CdcStatus | RouterStatus>[] = [];
  const kept = <S extends Service<CdcStatus> | Service<RouterStatus>>(service: S): S => {
    services.push(service as Service<CdcStatus | RouterStatus>);
    return service;
  };
  const common = { brokers: kafka.brokers, topicPrefix: name, ...(env === undefined ? {} : { env }) };
  return {
    name,
    mainUrl,
    main,
    replicaServer,
    kafka,
    replicas,
    cdc: async (more) => kept(await startCdc({ ...common, databaseUrl: mainUrl, slot: name, ...more })),
    router: async (engine, more) => {
      const url = replicas.find((replica) => replica.name === engine)?.url ?? "";
      return kept(await startRouter({ ...common, replicaUrl: url, replicaName: engine, ...more }));
    },
    logs: () => logsOf(services),
    sql: (text, values) => main.query(name, text, values),
    expectEqual: (stallMs, only = engines) =>
      expectEqual(
        mainUrl,
        replicas.filter(({ name: engine }) => only.includes(engine)),
        services,
        stallMs,
      ),
    [Symbol.asyncDispose]: async () => {
      await Promise.all(services.map((service) => service.kill()));
      await main.dropDatabase(name);
      await replicaServer.dropDatabase(name);
      await mariadb?.dropDatabase(name);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function expectEqual(
  mainUrl: string,
  replicas: Pipeline["replicas"],
  services: readonly Service<CdcStatus | RouterStatus>[],
  stallMs = 45_000,
): Promise<void> {
  const statuses = (): Promise<readonly (CdcStatus | RouterStatus | null)[]> =>
    Promise.all(services.map((service) => service.status().catch(() => null)));
  const progress = async (): Promise<string> => JSON.stringify((await statuses()).map((status) => status?.eventsTotal));
  const result = await untilCaughtUp({ mainUrl, replicas, progress, stallMs });
  if (!result.equal) {
    const wrong = result.replicas.flatMap((replica) =>
      replica.problem !== null
        ? [`${replica.name}: ${replica.problem}`]
        : replica.tables.filter((table) => !isEqual(table)).map((table) => `${replica.name}: ${JSON.stringify(table)}`),
    );
    const said = JSON.stringify(await statuses(), null, 1);
    throw new Error(`Not equal, and nothing moves:\n${wrong.join("\n")}\n${said}\n${logsOf(services)}`);
  }
  // Two empty databases are equal, too.
  const rows = result.replicas.map(({ tables }) => tables.reduce((sum, table) => sum + table.rows, 0));
  for (const count of rows) expect(count).toBeGreaterThan(0);
}

/** CASCADE_STEPS=show: everything that may say why. */
const SHOWN_LINES = process.env["CASCADE_STEPS"] === "show" ? 1000 : 12;

const logsOf = (services: readonly Service<CdcStatus | RouterStatus>[]): string =>
  services.map((service) => `--- ${service.name}\n${service.log().split("\n").slice(-SHOWN_LINES).join("\n")}`).join("\n");

/** Resolves when the router has applied a first row. */
export async function untilItApplies(router: Service<RouterStatus>): Promise<void> {
  const applies = await until(async () => ((await router.status().catch(() => null))?.eventsTotal ?? 0) > 0, 30_000);
  if (!applies) throw new Error(`${router.name} has applied nothing for 30 s:\n${router.log()}`);
}
