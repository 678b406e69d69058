import { join } from "node:path";
import { compareReplica, isEqual } from "@cascade/local/canonical-state.ts";
import { type LocalKafka, startKafka } from "@cascade/local/kafka.ts";
import { type LocalMariadb, startMariadb } from "@cascade/local/mariadb.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { type LocalPostgres, startPostgres } from "@cascade/local/postgres.ts";
import type { CdcStatus, RouterStatus } from "@cascade/local/service-status.ts";
import { type Service, startCdc, startRouter } from "@cascade/local/stack.ts";
import { Client } from "pg";
import type { Processes } from "./figure.ts";
import { benchRow, type Workload } from "./workloads.ts";

/** The servers of one bench, and fresh databases, topics and files for each run. */
export interface Lab {
  readonly folder: string;
  readonly main: LocalPostgres;
  readonly replica: LocalPostgres;
  /** Null where MariaDB is not installed: it is then left out. */
  readonly mariadb: LocalMariadb | null;
  readonly kafka: LocalKafka;
}

/** The servers as people run them: no setting that a database of their own would not have. */
export async function openLab(folder: string): Promise<Lab> {
  const own = { removeWhenOrphaned: true };
  const settings = { shared_buffers: "256MB", max_wal_size: "4GB" };
  const mariadbSettings = { "innodb-buffer-pool-size": "256M", "innodb-log-file-size": "1G" };
  const [main, replica, mariadb, kafka] = await Promise.all([
    startPostgres({ dir: join(folder, "main-db"), settings, ...own }),
    startPostgres({ dir: join(folder, "replica"), settings, ...own }),
    findMariadb() === null ? null : startMariadb({ dir: join(folder, "mariadb"), settings: mariadbSettings, ...own }),
    startKafka({ dir: join(folder, "kafka"), javaOptions: ["-Xmx512m"], ...own }),
  ]);
  return { folder, main, replica, mariadb, kafka };
}

export async function closeLab({ main, replica, mariadb, kafka }: Lab): Promise<void> {
  for (const server of [kafka, mariadb, replica, main]) await server?.[Symbol.asyncDispose]();
}

export const ENGINES = ["postgres", "mariadb", "sqlite", "duckdb"] as const;
export type Engine = (typeof ENGINES)[number];

/** Services with their names. */
export interface Pipeline extends AsyncDisposable {
  readonly services: readonly (readonly [who: string, service: Service<{ readonly eventsTotal: number }>])[];
  readonly cdc: Service<CdcStatus>;
  readonly routers: readonly (readonly [engine: Engine, router: Service<RouterStatus>])[];
  stop(): Promise<void>;
}

interface CdcSettings {
  readonly tables?: string;
  readonly copy?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** One run's own part of the lab. */
export class Trial {
  readonly #lab: Lab;
  readonly #name: string;
  readonly mainUrl: string;
  readonly engines: readonly Engine[];

  private constructor(lab: Lab, name: string, mainUrl: string, engines: readonly Engine[]) {
    this.#lab = lab;
    this.#name = name;
    this.mainUrl = mainUrl;
    this.engines = engines.filter((engine) => engine !== "mariadb" || lab.mariadb !== null);
  }

  static async open(lab: Lab, name: string, engines: readonly Engine[]): Promise<Trial> {
    const trial = new Trial(lab, name, await lab.main.createDatabase(name), engines);
    await lab.replica.createDatabase(name);
    await lab.mariadb?.createDatabase(name);
    await trial.sql(SCHEMA);
    return trial;
  }

  async close(): Promise<void> {
    await this.#lab.main.dropDatabase(this.#name);
    await this.#lab.replica.dropDatabase(this.#name);
    await this.#lab.mariadb?.dropDatabase(this.#name);
  }

  /** @param tables all when left out; @param copy topics and a slot of their own, under this name */
  cdc({ tables, copy, env = {} }: CdcSettings = {}): Promise<Service<CdcStatus>> {
    const name = copy === undefined ? this.#name : `${this.#name}_${copy}`;
    const common = { ...this.#common("cdc"), topicPrefix: name, env };
    return startCdc({ ...common, databaseUrl: this.mainUrl, slot: name, ...(tables === undefined ? {} : { tables }) });
  }

  router(engine: Engine): Promise<Service<RouterStatus>> {
    return startRouter({ ...this.#common(engine), replicaUrl: this.replicaUrl(engine), replicaName: engine });
  }

  /** One of any number that share a replica, which is of this name. */
  routerOf(
    { name, url }: { readonly name: string; readonly url: string },
    tables: string,
    env: Readonly<Record<string, string>>,
  ): Promise<Service<RouterStatus>> {
    return startRouter({ ...this.#common(name), replicaUrl: url, replicaName: name, tables, env });
  }

  /** A router for every engine, and cdc, ready. */
  async pipeline(): Promise<Pipeline> {
    const routers = await Promise.all(this.engines.map(async (engine) => [engine, await this.router(engine)] as const));
    await Promise.all(routers.map(([, router]) => router.ready()));
    const cdc = await this.cdc();
    await cdc.ready();
    const services = [["cdc", cdc], ...routers] as const;
    const stop = async () => void (await Promise.all(services.map(([, service]) => service.stop())));
    return { services, cdc, routers, stop, [Symbol.asyncDispose]: stop };
  }

  /** The server of the replicas that are PostgreSQL's. */
  get postgres(): LocalPostgres {
    return this.#lab.replica;
  }

  get brokers(): string {
    return this.#lab.kafka.brokers;
  }

  get name(): string {
    return this.#name;
  }

  get folder(): string {
    return this.#lab.folder;
  }

  /** So that the slot begins before the first row: cdc makes it, and ends. */
  async makeSlot(options: { readonly tables?: string } = {}): Promise<void> {
    const cdc = await this.cdc(options);
    await cdc.ready();
    while ((await cdc.status()).snapshots.length > 0) await Bun.sleep(50);
    await cdc.stop();
  }

  async insert(rows: number, perTransaction: number): Promise<void> {
    await this.sql(`CALL fill(${rows}, ${perTransaction})`);
  }

  /** Resolves to how many changes there were. */
  async write({ write, counted }: Workload, changes: number): Promise<number> {
    await this.sql(write(changes));
    return counted === null ? changes : Number((await this.sql(counted))[0]?.["changes"]);
  }

  /** The servers' processes: main-db's, Kafka's, the replicas'. */
  servers(engines: readonly Engine[] = this.engines): Processes {
    const { main, replica, mariadb, kafka } = this.#lab;
    const all = [
      ["main-db", main, true],
      ["Kafka", kafka, true],
      ["PostgreSQL", replica, engines.includes("postgres")],
      ["MariaDB", mariadb, engines.includes("mariadb")],
    ] as const;
    return new Map(
      all.flatMap(([name, server, isUsed]) => (isUsed && server !== null ? [[name, server.pid() ?? 0] as const] : [])),
    );
  }

  /** Rejects when the replica is not equal to main-db, row by row. */
  verify(engine: Engine, tables = "public.*"): Promise<void> {
    return this.verifyAt(this.replicaUrl(engine), tables, engine);
  }

  async verifyAt(url: string, tables: string, name = url): Promise<void> {
    const compared = await compareReplica(this.mainUrl, url, tables);
    const differing = compared.filter((table) => !isEqual(table));
    if (compared.length === 0 || differing.length > 0)
      throw new Error(`${name} is not equal to main-db: ${JSON.stringify(differing.slice(0, 3))}`);
  }

  async sql(text: string): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const client = new Client({ connectionString: this.mainUrl });
    await client.connect();
    try {
      return (await client.query(text)).rows;
    } finally {
      await client.end();
    }
  }

  #common(service: string) {
    const { kafka, folder } = this.#lab;
    return { brokers: kafka.brokers, topicPrefix: this.#name, logFile: join(folder, `${this.#name}-${service}.log`) };
  }

  replicaUrl(engine: Engine): string {
    const { replica, mariadb, folder } = this.#lab;
    switch (engine) {
      case "postgres":
        return replica.url(this.#name);
      case "mariadb":
        if (mariadb === null) throw new Error("MariaDB is not installed");
        return mariadb.url(this.#name);
      case "sqlite":
        return `sqlite://${join(folder, `${this.#name}.db`)}`;
      case "duckdb":
        return `duckdb://${join(folder, `${this.#name}.duckdb`)}`;
    }
  }
}

const SCHEMA = `
  CREATE TABLE bench (
    id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL, amount numeric(12,2) NOT NULL,
    created_at timestamptz NOT NULL, paid boolean, note text);
  CREATE TABLE streamed (LIKE bench INCLUDING ALL);
  CREATE PROCEDURE fill_streamed(first bigint, total bigint) LANGUAGE plpgsql AS $$
  BEGIN
    FOR chunk IN first..first + total - 1 BY 100 LOOP
      INSERT INTO streamed SELECT ${benchRow("'new'")}
        FROM generate_series(chunk, chunk + 99) AS id;
      COMMIT;
    END LOOP;
  END $$;
  CREATE PROCEDURE fill(total bigint, per_transaction bigint) LANGUAGE plpgsql AS $$
  BEGIN
    FOR chunk IN 1..total BY per_transaction LOOP
      INSERT INTO bench SELECT ${benchRow("CASE WHEN id % 3 = 0 THEN 'shipped' ELSE 'new' END")}
        FROM generate_series(chunk, least(chunk + per_transaction - 1, total)) AS id;
      COMMIT;
    END LOOP;
  END $$`;
