import { cpuSecondsOf, peakRssBytesOf } from "@cascade/local/usage-of.ts";
import { Client } from "pg";
import { type Figure, usageOf } from "../figure.ts";
import type { Trial } from "../lab.ts";
import type { Workload } from "../workloads.ts";
import { copySchema } from "./copy-schema.ts";
import type { Peer } from "./peer.ts";

const WHO = "PostgreSQL itself";
const LOOK_MS = 20;
const STUCK_MS = 600_000;

/** PostgreSQL's own logical replication: a publication and a subscription, no broker between, and PostgreSQL alone at the other end. */
export const native: Peer = {
  what: "PostgreSQL's own logical replication, from one server to the other; end-to-end",
  settings: [`${WHO}: CREATE SUBSCRIPTION as it comes, copy_data=false`],
  runs: { "end-to-end": replicated },
};

/** A backlog of the slot, from the moment the subscription is enabled. The rows come in order: the last one is told from the others. */
async function replicated(trial: Trial, workload: Workload, changes: number): Promise<readonly Figure[]> {
  const { name } = trial;
  await trial.sql("CREATE TABLE replicated_to_the_end (id integer PRIMARY KEY)");
  await copySchema(trial.mainUrl, trial.replicaUrl("postgres"), trial.folder);
  await trial.sql(`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
  await trial.sql(`CREATE PUBLICATION ${name} FOR TABLES IN SCHEMA public`);
  const replica = new Client({ connectionString: trial.replicaUrl("postgres") });
  await replica.connect();
  try {
    const how = "create_slot = false, copy_data = false, enabled = false";
    await replica.query(
      `CREATE SUBSCRIPTION ${name} CONNECTION '${trial.mainUrl}' PUBLICATION ${name} WITH (slot_name = '${name}', ${how})`,
    );
    const rows = await trial.write(workload, changes);
    await trial.sql("INSERT INTO replicated_to_the_end VALUES (1)");
    const used = usageOf(trial.servers(["postgres"]));
    const startedAt = performance.now();
    await replica.query(`ALTER SUBSCRIPTION ${name} ENABLE`);
    let pid = 0;
    for (;;) {
      const { rows: ends } = await replica.query("SELECT FROM replicated_to_the_end");
      if (ends.length > 0) break;
      if (pid === 0)
        pid = (await replica.query("SELECT pid FROM pg_stat_subscription WHERE subname = $1", [name])).rows[0]?.pid ?? 0;
      if (performance.now() - startedAt > STUCK_MS) throw new Error(`${WHO} is stuck`);
      await Bun.sleep(LOOK_MS);
    }
    const seconds = (performance.now() - startedAt) / 1_000;
    const figure = {
      ...({ part: "end-to-end", who: WHO, against: "postgres", rows, seconds, cpuSeconds: cpuSecondsOf(pid) } as const),
      ...{
        peakRssBytes: peakRssBytesOf(pid),
        servers: used(),
        note: "its CPU is the apply worker's, which counts as the server's too",
      },
    };
    await trial.verify("postgres");
    return [figure];
  } finally {
    await replica.query(`ALTER SUBSCRIPTION ${name} DISABLE`);
    await replica.query(`DROP SUBSCRIPTION ${name}`); // and its slot
    await replica.end();
  }
}
