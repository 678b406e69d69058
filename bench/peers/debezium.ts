import type { Admin } from "kafkajs";
import { type Counting, drain, type Figure } from "../figure.ts";
import { openAdmin } from "../kafka-admin.ts";
import type { Trial } from "../lab.ts";
import type { Workload } from "../workloads.ts";
import { type ConnectWorker, type Settings, startConnect } from "./connect.ts";
import { copySchema } from "./copy-schema.ts";
import { HEAP } from "./libraries.ts";
import type { Peer } from "./peer.ts";

/** What its users turn first where it is to be fast, and what its documentation says of that. */
interface Tuning {
  readonly source: Settings;
  readonly sink: Settings;
  /** Of the JDBC URL. */
  readonly url: string;
}

const STOCK: Tuning = { source: {}, sink: {}, url: "" };
const TUNED: Tuning = {
  source: {
    "poll.interval.ms": "5",
    "max.batch.size": "8192",
    "max.queue.size": "32768",
    "producer.override.linger.ms": "5",
    "producer.override.batch.size": "262144",
  },
  sink: {
    "batch.size": "10000",
    "use.reduction.buffer": "true",
    "dialect.postgres.unnest.insert.enabled": "true",
    "consumer.override.max.poll.records": "10000",
    "consumer.override.fetch.min.bytes": "65536",
    "consumer.override.fetch.max.wait.ms": "50",
    "consumer.override.max.partition.fetch.bytes": "8388608",
  },
  url: "?reWriteBatchedInserts=true",
};

/** What the sink has done is what it has committed: this often. A user has no reason to. */
const MEASURED: Settings = { "offset.flush.interval.ms": "250" };

const SOURCE = "source";
const SINK = "sink";

/** Debezium's PostgreSQL connector and its JDBC sink, on Kafka Connect: JSON with schemas, which the sink wants. */
export function debezium(isTuned: boolean): Peer {
  const tuning = isTuned ? TUNED : STOCK;
  const who = isTuned ? "Debezium" : "Debezium (stock)";
  const from = isTuned ? "tuned" : "as it comes";
  return {
    what: `Debezium's PostgreSQL connector and JDBC sink on Kafka Connect, ${from}; capture, apply, end-to-end`,
    settings: [
      `${who}, ${from}: source ${listed(tuning.source)}; sink ${listed(tuning.sink)}; URL ${tuning.url || "-"}; JVM ${HEAP.join(" ")}`,
    ],
    runs: {
      capture: async (trial, workload, changes) => {
        const rows = await backlog(trial, workload, changes);
        return [await captured(trial, tuning, { part: "capture", who, against: "cdc", rows })];
      },
      apply: async (trial, workload, changes) => {
        const rows = await backlog(trial, workload, changes);
        await captured(trial, tuning, { part: "capture", who, against: "cdc", rows });
        return [await applied(trial, { [SINK]: await sinkOf(trial, tuning) }, { part: "apply", who, against: "postgres", rows })];
      },
      "end-to-end": async (trial, workload, changes) => {
        const rows = await backlog(trial, workload, changes);
        const connectors = { [SOURCE]: sourceOf(trial, tuning), [SINK]: await sinkOf(trial, tuning) };
        return [await applied(trial, connectors, { part: "end-to-end", who, against: "postgres", rows })];
      },
    },
  };
}

const listed = (settings: Settings): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name}=${value}`)
    .join(" ") || "-";

interface Measuring extends Pick<Figure, "part" | "who" | "rows"> {
  readonly against: string;
}

/** The replica has the tables, and the slot all changes. Resolves to how many there are. */
async function backlog(trial: Trial, workload: Workload, changes: number): Promise<number> {
  await copySchema(trial.mainUrl, trial.replicaUrl("postgres"), trial.folder);
  await trial.sql(`SELECT pg_create_logical_replication_slot('${trial.name}', 'pgoutput')`);
  await trial.sql(`CREATE PUBLICATION ${trial.name} FOR TABLES IN SCHEMA public`);
  return await trial.write(workload, changes);
}

/** From the moment the connector runs. */
async function captured(trial: Trial, tuning: Tuning, measuring: Measuring): Promise<Figure> {
  const topics = await topicsOf(trial);
  const { rows } = measuring;
  await using worker = await workerOf(trial, { [SOURCE]: sourceOf(trial, tuning) });
  await using kafka = await openAdmin(trial.brokers);
  const figure = await drained(worker, () => messagesIn(kafka.admin, topics), measuring, trial.servers([]));
  const found = await messagesIn(kafka.admin, topics);
  if (found !== rows) throw new Error(`Debezium has written ${found} of ${rows} messages`);
  return figure;
}

/** What the sink's group has committed is in the replica. */
async function applied(trial: Trial, connectors: Readonly<Record<string, Settings>>, measuring: Measuring): Promise<Figure> {
  await using kafka = await openAdmin(trial.brokers);
  const topics = await topicsOf(trial);
  const counted = () => committedBy(kafka.admin, `connect-${SINK}`, topics);
  try {
    await using worker = await workerOf(trial, connectors);
    return await drained(worker, counted, measuring, trial.servers(["postgres"]));
  } finally {
    await trial.verify("postgres");
    await kafka.admin.deleteGroups([`connect-${SINK}`]);
  }
}

async function drained(
  worker: ConnectWorker,
  counted: () => Promise<number>,
  { part, who, against, rows }: Measuring,
  servers: ReturnType<Trial["servers"]>,
): Promise<Figure> {
  const service: Counting = { ...worker, status: async () => ({ eventsTotal: await counted() }) };
  return { ...(await drain(part, who, service, rows, { servers })), against };
}

const workerOf = (trial: Trial, connectors: Readonly<Record<string, Settings>>): Promise<ConnectWorker> =>
  startConnect({ brokers: trial.brokers, folder: trial.folder, worker: MEASURED, connectors });

function sourceOf(trial: Trial, { source }: Tuning): Settings {
  const { hostname, port, username, password, pathname } = new URL(trial.mainUrl);
  return {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "plugin.name": "pgoutput",
    "database.hostname": hostname,
    "database.port": port,
    "database.user": decodeURIComponent(username),
    "database.password": decodeURIComponent(password),
    "database.dbname": pathname.slice(1),
    "topic.prefix": trial.name,
    "slot.name": trial.name,
    "publication.name": trial.name,
    "publication.autocreate.mode": "disabled",
    "table.include.list": "public[.].*",
    "snapshot.mode": "no_data",
    "tombstones.on.delete": "false",
    "topic.creation.default.partitions": "1",
    "topic.creation.default.replication.factor": "1",
    ...source,
  };
}

async function sinkOf(trial: Trial, { sink, url }: Tuning): Promise<Settings> {
  const { hostname, port, username, password, pathname } = new URL(trial.replicaUrl("postgres"));
  return {
    "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
    topics: (await topicsOf(trial)).join(),
    "connection.url": `jdbc:postgresql://${hostname}:${port}${pathname}${url}`,
    "connection.username": decodeURIComponent(username),
    "connection.password": decodeURIComponent(password),
    "insert.mode": "upsert",
    "delete.enabled": "true",
    "primary.key.mode": "record_key",
    "schema.evolution": "none",
    "collection.name.format": `\${source.table}`,
    "consumer.override.auto.offset.reset": "earliest",
    "consumer.override.metadata.max.age.ms": "500",
    ...sink,
  };
}

async function topicsOf(trial: Trial): Promise<readonly string[]> {
  const tables = await trial.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");
  return tables.map(({ tablename }) => `${trial.name}.public.${tablename}`);
}

async function messagesIn(admin: Admin, topics: readonly string[]): Promise<number> {
  const there = await admin.listTopics();
  const offsets = await Promise.all(
    topics.filter((topic) => there.includes(topic)).map((topic) => admin.fetchTopicOffsets(topic)),
  );
  return offsets.flat().reduce((sum, { high }) => sum + Number(high), 0);
}

async function committedBy(admin: Admin, groupId: string, topics: readonly string[]): Promise<number> {
  const there = await admin.listTopics();
  const committed = await admin.fetchOffsets({ groupId, topics: topics.filter((topic) => there.includes(topic)) });
  return committed.flatMap(({ partitions }) => partitions).reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0);
}
