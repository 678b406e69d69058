import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { serverFolder, serverUser } from "@cascade/local/server-user.ts";
import { testMariadb, testReplicaPostgres } from "@cascade/local/servers.ts";
import type { Client } from "pg";
import { type Engine, openPipeline } from "../pipeline.ts";
import { retrying } from "../refusals.ts";
import { canMount, mountSmallDisk } from "./small-disk.ts";

/** A replica whose disk is full says so, loses nothing, and goes on by itself once there is room. */

const schema = (client: Client): Promise<unknown> => client.query("CREATE TABLE big (id int PRIMARY KEY, v text NOT NULL)");

/** Values that compress badly: 40 MB, ten times what there is room for. */
const FILL =
  "INSERT INTO big SELECT n, string_agg(md5(n::text || m::text), '') FROM generate_series($1::int, $2::int) n, generate_series(1, 125) m GROUP BY n";

interface Place {
  readonly mebibytes: number;
  /** Where its tables are on the small disk. */
  readonly url: (folder: string, name: string) => Promise<string>;
  readonly code: string;
}

const PLACES: readonly (readonly [Engine, Place])[] = [
  ["sqlite", { mebibytes: 8, code: "REPLICA_FULL", url: async (folder) => `sqlite://${join(folder, "replica.db")}` }],
  ["duckdb", { mebibytes: 24, code: "REPLICA_UNAVAILABLE", url: async (folder) => `duckdb://${join(folder, "replica.duckdb")}` }],
  [
    "postgres",
    {
      mebibytes: 16,
      code: "REPLICA_FULL",
      url: async (folder, name) => {
        const server = await testReplicaPostgres();
        await server.dropDatabase(name);
        const place = serverFolder(join(folder, "tablespace"), serverUser());
        await server.query("postgres", `CREATE TABLESPACE ${name} LOCATION '${place}'`);
        await server.query("postgres", `CREATE DATABASE ${name} TABLESPACE ${name}`);
        return server.url(name);
      },
    },
  ],
  [
    "mariadb",
    {
      mebibytes: 32,
      code: "REPLICA_FULL",
      url: async (folder, name) => {
        const server = await testMariadb();
        if (server === null) throw new Error("MariaDB is not installed");
        const url = await server.createDatabase(name);
        mkdirSync(join(folder, "data"), { mode: 0o777 });
        const place = serverFolder(join(folder, "data"), serverUser());
        await server.query(name, `CREATE TABLE big (id int PRIMARY KEY, v longtext NOT NULL) DATA DIRECTORY = '${place}'`);
        return url;
      },
    },
  ],
];

test.skipIf(!canMount).each(PLACES)(
  "a full disk holds %s's table until there is room",
  async (engine, { mebibytes, url, code }) => {
    using disk = mountSmallDisk(mebibytes);
    const name = `faults_disk_${engine}`;
    const replicaUrl = await url(disk.folder, name);
    {
      await using pipeline = await openPipeline({ name, engines: [engine], schema, urls: { [engine]: replicaUrl } });
      await (await pipeline.cdc()).ready();
      const router = await pipeline.router(engine);
      await pipeline.sql(FILL, [1, 100]);
      await pipeline.expectEqual();
      await pipeline.sql(FILL, [101, 10_000]);
      await retrying(router, code);
      expect((await router.status()).ready).toBe(false);
      disk.grow(400);
      await pipeline.expectEqual();
      await router.ready();
    }
    if (engine === "postgres") await (await testReplicaPostgres()).query("postgres", `DROP TABLESPACE ${name}`);
  },
  120_000,
);
