import { Database } from "bun:sqlite";
import type { Server } from "@cascade/local/server.ts";
import type { Random } from "@cascade/workload/random";
import { Client } from "pg";
import { LINK_FAULTS } from "../faults/link-faults.ts";
import { emptyTopics, tableTopics, withAdmin } from "../topics.ts";
import type { Field, Post } from "./field.ts";

/** Something bad that happens, and how it ends. */
export interface Fault {
  readonly name: string;
  /** What it does harm to: no two of the same are under way at once. */
  readonly target: string;
  /** Resolves with what ends it. */
  readonly strike: (random: Random) => Promise<() => Promise<void>>;
}

/** Every fault that a history may draw. All of them end equal: what ends in a stop has a test of its own in e2e/faults. */
export function faultsOf(field: Field): readonly Fault[] {
  const { lab, cdc, routers } = field;
  const { main, kafka, replicaServer } = lab.pipeline;
  const servers: readonly (readonly [string, Server])[] = [
    ["main-db", main],
    ["Kafka", kafka],
    ["PostgreSQL replica", replicaServer],
    ...(lab.mariadb === null ? [] : [["MariaDB", lab.mariadb] as const]),
  ];
  return [
    ...[cdc, ...routers].flatMap(serviceFaults),
    ...servers.flatMap(([name, server]) => serverFaults(name, server)),
    ...[...lab.links].flatMap(([name, link]) =>
      LINK_FAULTS.map((fault) => ({
        name: `${name}: ${fault.name}`,
        target: name,
        strike: (random: Random) => fault.strike(link, random),
      })),
    ),
    ...lostAnswers(field),
    ...secondServices(field),
    ...heldReplicas(field),
    ...lossesOfKafka(field),
  ];
}

const nothing = async (): Promise<void> => {};

function serviceFaults(service: Post): readonly Fault[] {
  const { name } = service;
  const frozen = async (): Promise<() => Promise<void>> => {
    const { child } = service.current();
    child.freeze();
    return async () => child.thaw();
  };
  return [
    ...(["SIGKILL", "SIGTERM"] as const).map((signal) => ({
      name: `${name}: ${signal}`,
      target: name,
      strike: async () => {
        await service.current().kill(signal);
        return () => service.start();
      },
    })),
    { name: `${name}: frozen`, target: name, strike: frozen },
  ];
}

function serverFaults(name: string, server: Server): readonly Fault[] {
  const signals: readonly NodeJS.Signals[] = name === "main-db" ? ["SIGKILL", "SIGINT", "SIGQUIT"] : ["SIGKILL"];
  return [
    ...signals.map((signal) => ({
      name: `${name}: ${signal}`,
      target: name,
      strike: async () => {
        await server.kill(signal);
        return () => server.start();
      },
    })),
    {
      name: `${name}: frozen`,
      target: name,
      strike: async () => {
        server.freeze();
        return async () => server.thaw();
      },
    },
  ];
}

function lostAnswers({ lab }: Field): readonly Fault[] {
  const lost = (name: "cdc - Kafka" | "router - PostgreSQL" | "router - MariaDB", needle: string): readonly Fault[] => {
    const link = lab.links.get(name);
    const strike = async (): Promise<() => Promise<void>> => {
      void link?.loseAnswerTo(needle);
      return () => link?.heal() ?? nothing();
    };
    return link === undefined
      ? []
      : [{ name: `${name}: the answer to ${needle.split(".").at(-2) ?? needle} is lost`, target: name, strike }];
  };
  return [
    ...lost("cdc - Kafka", `${lab.pipeline.name}.public.`),
    ...lost("router - PostgreSQL", "COMMIT"),
    ...lost("router - MariaDB", "COMMIT"),
  ];
}

/** Another one of the same, which goes again: it may have taken the slot or some partitions by then. */
function secondServices({ lab, routers }: Field): readonly Fault[] {
  return [
    {
      name: "a second cdc",
      target: "a second cdc",
      strike: async () => {
        const second = await lab.cdc();
        return async () => void (await second.kill());
      },
    },
    // One process at a time has a DuckDB file.
    ...routers
      .filter(({ engine }) => engine !== "duckdb")
      .map(({ name, engine }) => ({
        name: `a second ${name}`,
        target: `a second ${name}`,
        strike: async () => {
          const second = await lab.router(engine);
          return async () => void (await second.kill());
        },
      })),
  ];
}

function heldReplicas({ lab, routers }: Field): readonly Fault[] {
  const urlOf = (engine: string): string => lab.pipeline.replicas.find(({ name }) => name === engine)?.url ?? "";
  return routers.flatMap(({ engine }): readonly Fault[] => {
    const target = `lock on ${engine}`;
    if (engine === "postgres")
      return [{ name: "PostgreSQL replica: a table is locked", target, strike: () => lockPostgres(urlOf(engine)) }];
    if (engine === "sqlite")
      return [{ name: "SQLite replica: the file is locked", target, strike: () => lockSqlite(urlOf(engine)) }];
    return [];
  });
}

async function lockPostgres(url: string): Promise<() => Promise<void>> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.query("SET lock_timeout = '2s'; BEGIN; LOCK TABLE public.orders IN ACCESS EXCLUSIVE MODE");
  } catch {
    // The server is away, or the table not there yet: nothing is locked then.
  }
  return () => Promise.race([client.end().catch(() => {}), Bun.sleep(1_000)]);
}

async function lockSqlite(url: string): Promise<() => Promise<void>> {
  const database = new Database(url.slice("sqlite://".length), { create: true });
  database.run("PRAGMA busy_timeout = 2000");
  try {
    database.run("BEGIN IMMEDIATE");
  } catch {
    // The router is faster all the time: nothing is locked then.
  }
  return async () => database.close();
}

function lossesOfKafka({ lab, routers }: Field): readonly Fault[] {
  const { kafka, name: prefix } = lab.pipeline;
  const whenKafkaAnswers = async (work: () => Promise<unknown>): Promise<void> => {
    // Kafka may be struck at the same time: then nothing is lost, which is no less of a history.
    await Promise.race([work().catch(() => {}), Bun.sleep(5_000)]);
  };
  return routers.map((router) => ({
    name: `${router.name}: killed, and Kafka's retention passes its offsets`,
    target: router.name,
    strike: async () => {
      await router.current().kill();
      await Bun.sleep(300);
      await whenKafkaAnswers(async () => emptyTopics(kafka.brokers, await tableTopics(kafka.brokers, prefix)));
      return () => router.start();
    },
  }));
}

/** Not among the others: it is for routers that have begun to read every topic. */
export function topicDeleted({ lab }: Field): Fault {
  const { kafka, name } = lab.pipeline;
  return {
    name: "a topic is deleted",
    target: "topics",
    strike: async (random) => {
      const table = random.pick(["orders", "customers", "order_items", "audit"]);
      const deleted = withAdmin(kafka.brokers, (admin) => admin.deleteTopics({ topics: [`${name}.public.${table}`] }));
      await Promise.race([deleted.catch(() => {}), Bun.sleep(5_000)]);
      return nothing;
    },
  };
}
