import { join } from "node:path";
import { compareReplica, isEqual } from "@cascade/local/canonical-state.ts";
import { type LocalKafka, startKafka } from "@cascade/local/kafka.ts";
import { type LocalPostgres, startPostgres } from "@cascade/local/postgres.ts";
import type { CdcStatus, RouterStatus } from "@cascade/local/service-status.ts";
import { type Service, startCdc, startRouter } from "@cascade/local/stack.ts";
import { Client } from "pg";

/** The servers of one bench, and fresh databases, topics and files for each run. */
export interface Lab {
  readonly folder: string;
  readonly main: LocalPostgres;
  readonly replica: LocalPostgres;
  readonly kafka: LocalKafka;
}

/** The servers as people run them: no setting that a database of their own would not have. */
export async function openLab(folder: string): Promise<Lab> {
  const own = { removeWhenOrphaned: true };
  const settings = { shared_buffers: "256MB", max_wal_size: "4GB" };
  const [main, replica, kafka] = await Promise.all([
    startPostgres({ dir: join(folder, "main-db"), settings, ...own }),
    startPostgres({ dir: join(folder, "replica"), settings, ...own }),
    startKafka({ dir: join(folder, "kafka"), javaOptions: ["-Xmx512m"], ...own }),
  ]);
  return { folder, main, replica, kafka };
}

export async function closeLab({ main, replica, kafka }: Lab): Promise<void> {
  for (const server of [kafka, replica, main]) await server[Symbol.asyncDispose]();
}

export const ENGINES = ["postgres", "sqlite"] as const;
export type Engine = (typeof ENGINES)[number];

/** One run's own part of the lab. */
export class Trial {
  readonly #lab: Lab;
  readonly #name: string;
  readonly mainUrl: string;

  private constructor(lab: Lab, name: string, mainUrl: string) {
    this.#lab = lab;
    this.#name = name;
    this.mainUrl = mainUrl;
  }

  static async open(lab: Lab, name: string): Promise<Trial> {
    const trial = new Trial(lab, name, await lab.main.createDatabase(name));
    await lab.replica.createDatabase(name);
    await trial.sql(SCHEMA);
    return trial;
  }

  async close(): Promise<void> {
    await this.#lab.main.dropDatabase(this.#name);
    await this.#lab.replica.dropDatabase(this.#name);
  }

  cdc(): Promise<Service<CdcStatus>> {
    return startCdc({ ...this.#common("cdc"), databaseUrl: this.mainUrl, slot: this.#name });
  }

  router(engine: Engine): Promise<Service<RouterStatus>> {
    return startRouter({ ...this.#common(engine), replicaUrl: this.#replicaUrl(engine), replicaName: engine });
  }

  /** So that the slot begins before the first row: cdc makes it, and ends. */
  async makeSlot(): Promise<void> {
    const cdc = await this.cdc();
    await cdc.ready();
    await cdc.stop();
  }

  async insert(rows: number, perTransaction: number): Promise<void> {
    await this.sql(`CALL fill(${rows}, ${perTransaction})`);
  }

  /** Rejects when the replica is not equal to main-db, row by row. */
  async verify(engine: Engine): Promise<void> {
    const [table] = await compareReplica(this.mainUrl, this.#replicaUrl(engine), "public.bench");
    if (table === undefined || !isEqual(table)) throw new Error(`${engine} is not equal to main-db: ${JSON.stringify(table)}`);
  }

  async sql(text: string): Promise<void> {
    const client = new Client({ connectionString: this.mainUrl });
    await client.connect();
    try {
      await client.query(text);
    } finally {
      await client.end();
    }
  }

  #common(service: string) {
    const { kafka, folder } = this.#lab;
    return { brokers: kafka.brokers, topicPrefix: this.#name, logFile: join(folder, `${this.#name}-${service}.log`) };
  }

  #replicaUrl(engine: Engine): string {
    return engine === "postgres" ? this.#lab.replica.url(this.#name) : `sqlite://${join(this.#lab.folder, `${this.#name}.db`)}`;
  }
}

/** About 200 bytes a row, of which nothing compresses well. */
const SCHEMA = `
  CREATE TABLE bench (
    id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL, amount numeric(12,2) NOT NULL,
    created_at timestamptz NOT NULL, paid boolean, note text);
  CREATE PROCEDURE fill(total bigint, per_transaction bigint) LANGUAGE plpgsql AS $$
  BEGIN
    FOR chunk IN 1..total BY per_transaction LOOP
      INSERT INTO bench SELECT id, id % 5000, CASE WHEN id % 3 = 0 THEN 'shipped' ELSE 'new' END, (id % 100000) / 100.0, now(),
        id % 2 = 0, md5(id::text) || md5((id + 1)::text) || md5((id + 2)::text) || md5((id + 3)::text)
        FROM generate_series(chunk, least(chunk + per_transaction - 1, total)) AS id;
      COMMIT;
    END LOOP;
  END $$;`;
