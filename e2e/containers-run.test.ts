import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isEqual } from "@cascade/local/canonical-state.ts";
import { untilCaughtUp } from "@cascade/local/catch-up.ts";
import { run } from "@cascade/local/command.ts";
import { readDashboards, unanswered } from "@cascade/local/dashboards.ts";
import { repository } from "@cascade/local/paths.ts";
import { freePort } from "@cascade/local/ports.ts";
import { queryPrometheus } from "@cascade/local/prometheus.ts";
import { until } from "@cascade/local/wait.ts";
import pg from "pg";
import { repeat } from "./reconnecting.ts";

/** docker-compose.yml for real. Only with CASCADE_TEST_DOCKER=true, where an engine with compose answers: minutes, and several GB of images. */

setDefaultTimeout(900_000);

const asked = process.env["CASCADE_TEST_DOCKER"] === "true";
const ROUTERS = ["shard-router", "router-mariadb", "router-sqlite", "router-duckdb"];
const OURS = ["cdc", ...ROUTERS];
const THEIRS = ["shard1-db", "mariadb", "kafka", "main-db"];
const ONLOOKERS = ["workload", "jaeger", "prometheus", "grafana"];
const IMAGES = ["cdc", "shard-router", "workload"];
/** Beyond the base image: the official one has about 180 MB, and an image is to have less than 250. */
const MAX_OWN_BYTES = 60e6;

const folder = mkdtempSync(join(tmpdir(), "cascade-containers-"));
const env: Record<string, string | undefined> = {
  ...process.env,
  COMPOSE_PROJECT_NAME: "cascade-test",
  COMPOSE_PROFILES: "files,mariadb",
};
let [mainUrl, replicaUrl, mariadbUrl, jaeger, prometheus, grafana] = ["", "", "", "", "", ""];

const compose = (...args: readonly string[]): Promise<string> => run(["docker", "compose", ...args], { cwd: repository, env });
const inside = (service: string, script: string): Promise<string> => compose("exec", "-T", service, "sh", "-c", script);
const inspect = async (service: string): Promise<Inspected> =>
  JSON.parse(await run(["docker", "inspect", "--format", "{{json .}}", (await compose("ps", "-a", "-q", service)).trim()]));

interface Inspected {
  readonly Image: string;
  readonly State: { readonly Pid: number; readonly Health?: { readonly Status: string } };
  readonly Path: string;
  readonly Args: readonly string[];
  readonly Config: { readonly User: string };
  readonly HostConfig: { readonly ReadonlyRootfs: boolean; readonly CapDrop: readonly string[]; readonly Tmpfs?: object };
}

beforeAll(async () => {
  if (!asked) return;
  for (const name of ["MAIN_DB", "SHARD1_DB", "MARIADB", "CDC_HTTP", "JAEGER", "PROMETHEUS", "GRAFANA"])
    env[`${name}_PORT`] = String(await freePort());
  mainUrl = `postgres://cascade:cascade@127.0.0.1:${env["MAIN_DB_PORT"]}/app`;
  replicaUrl = `postgres://cascade:cascade@127.0.0.1:${env["SHARD1_DB_PORT"]}/shard1`;
  mariadbUrl = `mariadb://cascade:cascade@127.0.0.1:${env["MARIADB_PORT"]}/replica`;
  [jaeger, prometheus, grafana] = ["JAEGER", "PROMETHEUS", "GRAFANA"].map(
    (name) => `http://127.0.0.1:${env[`${name}_PORT`]}`,
  ) as [string, string, string];
  await compose("up", "--build", "--wait");
});
afterAll(async () => {
  if (asked) await compose("down", "-v");
  rmSync(folder, { recursive: true, force: true });
});

async function query(url: string, text: string): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** -1 while it does not answer. */
const newestOnReplica = async (): Promise<number> =>
  Number((await query(replicaUrl, "SELECT max(n) AS n FROM entries").catch(() => []))[0]?.["n"] ?? -1);

test.skipIf(!asked).each(OURS)(
  "%s: not root, no capability, a read-only root, and no secret among its arguments",
  async (service) => {
    const { Path, Args, Config, HostConfig } = await inspect(service);
    expect(Config.User).toBe("1000:1000");
    expect(HostConfig).toMatchObject({ ReadonlyRootfs: true, CapDrop: ["ALL"] });
    expect(HostConfig.Tmpfs ?? {}).toEqual({});
    expect([Path, ...Args].join(" ")).not.toContain("cascade:");
    const status = await inside(service, "cat /proc/1/status /proc/1/cmdline | tr '\\0' ' '");
    expect(status).toMatch(/^Uid:\s+1000\s+1000\s+1000\s+1000$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);
    expect(status).toMatch(/^CapBnd:\s+0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toEndWith(" bun src/main.ts ");
    const written = await inside(
      service,
      "for f in /tmp /var/tmp /app /app/shared /home/bun /etc /; do touch $f/x 2>/dev/null && echo $f; done; true",
    );
    expect(written).toBe("");
  },
);

test.skipIf(!asked).each(IMAGES)("the image of %s is small", async (service) => {
  const { Image } = await inspect(service);
  const dockerfile = readFileSync(join(repository, service, "Dockerfile"), "utf8");
  const version = /^ARG BUN_VERSION=(.+)$/m.exec(dockerfile)?.[1] ?? "";
  const base = /^FROM (oven\/bun:\$\{BUN_VERSION\}-slim)$/m.exec(dockerfile)?.[1]?.replace(/\$\{.+\}/, version) ?? "";
  const sizeOf = async (image: string): Promise<number> =>
    Number(await run(["docker", "image", "inspect", "--format", "{{.Size}}", image]));
  const [bytes, baseBytes] = [await sizeOf(Image), await sizeOf(base)];
  process.stderr.write(
    `image of ${service}: ${(bytes / 1e6).toFixed(0)} MB, of which ${((bytes - baseBytes) / 1e6).toFixed(0)} MB ours\n`,
  );
  expect(bytes - baseBytes).toBeLessThan(MAX_OWN_BYTES);
});

const answerOf = async <Answer>(url: string): Promise<Answer> =>
  (await fetch(url, { signal: AbortSignal.timeout(10_000), keepalive: false })).json() as Promise<Answer>;

test.skipIf(!asked)("three routers share the work of one replica", async () => {
  await compose("up", "--detach", "--wait", "--no-recreate", "--scale", "shard-router=3");
  const partitions = async (): Promise<readonly number[]> => {
    const held = 'count by (instance) (cascade_router_lag_events{replica="shard1"})';
    return (await queryPrometheus(prometheus, held)).map(({ value }) => value);
  };
  const shared = await until(async () => (await partitions()).length === 3, 60_000, 1_000);
  process.stderr.write(`partitions of each router: ${await partitions()}\n`);
  expect(shared).toBe(true);
  await compose("up", "--detach", "--wait", "--no-recreate", "--scale", "shard-router=1");
});

test.skipIf(!asked)("every panel of every dashboard answers, and Grafana has them", async () => {
  const boards = readDashboards();
  const panels = boards.flatMap((board) => board.panels);
  let missing: readonly string[] = [];
  await until(
    async () => {
      missing = await unanswered(panels, "shard1", (promql) => queryPrometheus(prometheus, promql));
      return missing.length === 0;
    },
    60_000,
    2_000,
  );
  expect(missing).toEqual([]);
  const found = await answerOf<readonly { readonly uid: string }[]>(`${grafana}/api/search?type=dash-db`);
  expect(found.map(({ uid }) => uid).sort()).toEqual(boards.map(({ uid }) => uid).sort());
  const sources = await answerOf<unknown>(`${grafana}/api/health`);
  expect(sources).toMatchObject({ database: "ok" });
});

test.skipIf(!asked)("Jaeger has one trace from the capture of a batch to its commit on the replica", async () => {
  const tags = encodeURIComponent(JSON.stringify({ "cascade.replica": "shard1" }));
  const names = ["cascade.capture", "cascade.publish", "cascade.apply", "cascade.commit"];
  const whole = async (): Promise<boolean> => {
    const { data } = await answerOf<{ readonly data: readonly JaegerTrace[] }>(
      `${jaeger}/api/traces?service=shard-router&operation=cascade.apply&tags=${tags}&limit=20`,
    );
    return data.some(({ spans }) => names.every((name) => spans.some(({ operationName }) => operationName === name)));
  };
  expect(await until(whole, 60_000, 1_000)).toBe(true);
});

interface JaegerTrace {
  readonly spans: readonly { readonly operationName: string }[];
}

const isRoot = process.getuid?.() === 0;

test.skipIf(!asked || !isRoot).each(["cdc", "shard-router"])("%s is started again when its process ends", async (service) => {
  const { State } = await inspect(service);
  // From the host: what `docker kill` ends counts as stopped by hand.
  process.kill(State.Pid, "SIGKILL");
  const again = async (): Promise<boolean> => {
    const now = (await inspect(service)).State;
    return now.Pid !== State.Pid && now.Health?.Status === "healthy";
  };
  expect(await until(again, 60_000, 500)).toBe(true);
});

test.skipIf(!asked)("rows replicate; each container killed once while they do, every replica ends equal", async () => {
  // Large enough that what follows needs temporary files.
  await query(
    mainUrl,
    `CREATE TABLE big (id int PRIMARY KEY, v text, n int); CREATE TABLE entries (n int, v text); ALTER TABLE entries REPLICA IDENTITY FULL;
    INSERT INTO big SELECT i, md5(i::text) || repeat('x', 300), i FROM generate_series(1, 100000) AS i`,
  );
  let at = 0;
  const loading = repeat(mainUrl, (client) => async () => {
    at++;
    await client.query(`BEGIN; INSERT INTO entries VALUES (${at}, 'entry ${at}'); DELETE FROM entries WHERE n = ${at - 300};
      UPDATE big SET n = n + 1 WHERE id = ${1 + (at % 1_000)}; COMMIT`);
    await Bun.sleep(5);
    return true;
  });
  await query(
    mainUrl,
    "ALTER TABLE big ADD COLUMN c text DEFAULT repeat('d', 100); ALTER TABLE big ALTER COLUMN n TYPE bigint; UPDATE big SET c = v",
  );
  for (const service of [...ONLOOKERS, ...OURS, ...THEIRS]) {
    const before = loading.count();
    await compose("kill", "--signal", "SIGKILL", service);
    await compose("start", service);
    const since = performance.now();
    expect(await until(() => loading.count() > before + 20, 60_000)).toBe(true);
    const mark = at;
    if (!(await until(async () => (await newestOnReplica()) >= mark, 180_000, 250)))
      throw new Error(`nothing arrives after ${service} was killed:\n${await compose("logs", "--tail", "15", ...OURS)}`);
    process.stderr.write(
      `${service} killed: rows arrive again ${((performance.now() - since) / 1000).toFixed(1)} s after its start\n`,
    );
  }
  await loading.stop();
  await compose("up", "--detach", "--wait");
  await compose("stop", "workload");
  await expectEqual([
    { name: "shard1", url: replicaUrl },
    { name: "mariadb", url: mariadbUrl },
  ]);
  await fileEqual("sqlite", "sqlite.db");
  await fileEqual("duckdb", "duckdb.duckdb");
});

test.skipIf(!asked)("it ends at once", async () => {
  await compose("up", "--detach");
  const since = performance.now();
  await compose("down");
  const seconds = (performance.now() - since) / 1000;
  process.stderr.write(`docker compose down: ${seconds.toFixed(1)} s\n`);
  expect(seconds).toBeLessThan(30);
});

/** DuckDB's file can be read when its router has ended: it is stopped for each look, until it was done. */
async function fileEqual(engine: "sqlite" | "duckdb", file: string): Promise<void> {
  const service = `router-${engine}`;
  for (let look = 1; ; look++) {
    await compose("stop", service);
    const copy = join(folder, `${engine}-${look}`);
    await compose("cp", `${service}:/data`, copy);
    try {
      return await expectEqual([{ name: engine, url: `${engine}://${join(copy, file)}` }], 1_000);
    } catch (error) {
      if (look === 10) throw error;
    }
    await compose("start", service);
    await Bun.sleep(10_000);
  }
}

async function expectEqual(
  replicas: readonly { readonly name: string; readonly url: string }[],
  stallMs = 60_000,
): Promise<void> {
  const found = await untilCaughtUp({ mainUrl, replicas, stallMs });
  const wrong = found.replicas.flatMap(({ name, problem, tables }) => [
    name,
    problem,
    ...tables.filter((table) => !isEqual(table)),
  ]);
  if (!found.equal) throw new Error(`Not equal: ${JSON.stringify(wrong)}\n${await compose("logs", "--tail", "15", ...OURS)}`);
  expect(found.replicas[0]?.tables.find(({ table }) => table === "public.big")?.rows).toBe(100_000);
}
