import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareReplica, isEqual } from "@cascade/local/canonical-state.ts";
import { type Certificates, makeCertificates } from "@cascade/local/certificates.ts";
import { run } from "@cascade/local/command.ts";
import { type LocalKafka, startKafka } from "@cascade/local/kafka.ts";
import { javaCommand } from "@cascade/local/kafka-install.ts";
import { startMariadb } from "@cascade/local/mariadb.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { freePort } from "@cascade/local/ports.ts";
import { makeRunFolder } from "@cascade/local/run-folder.ts";
import { serverUser } from "@cascade/local/server-user.ts";
import { testKafka, testPostgres, testReplicaPostgres } from "@cascade/local/servers.ts";
import { type Service, startCdc, startRouter } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } from "kafkajs";
import { expectNoSecret, refusal, SECRETS } from "./refusals.ts";
import { collectSpans } from "./span-collector.ts";
import { testClient } from "./topics.ts";

/**
 * The whole line as a careful operator runs it: TLS to every server, SCRAM to Kafka, roles that may do what they must and nothing else.
 * What is not as it must be is refused, and nobody hears a secret or a row's value.
 */

setDefaultTimeout(120_000);

const [PASSWORD, VALUE] = SECRETS;
const NAMES = "DNS:localhost";
const PREFIX = "safe";

const folder = mkdtempSync(join(tmpdir(), "cascade-security-"));
chmodSync(folder, 0o755); // servers run as a user of their own
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const certificates = (name: string): Promise<Certificates> =>
  makeCertificates({ dir: join(folder, name), names: NAMES, owner: serverUser() });

interface SafeKafka {
  readonly kafka: LocalKafka;
  readonly brokers: string;
}

/** SCRAM over TLS for the services; ours without, on the loopback interface, as whoever may do anything. */
async function safeKafka({ keyStore }: Certificates): Promise<SafeKafka> {
  const port = await freePort();
  const kafka = await startKafka({
    dir: join(makeRunFolder("runs"), "safe-kafka"),
    removeWhenOrphaned: true,
    properties: ({ broker, controller }) => ({
      listeners: `PLAINTEXT://127.0.0.1:${broker},SASL_SSL://localhost:${port},CONTROLLER://127.0.0.1:${controller}`,
      "advertised.listeners": `PLAINTEXT://127.0.0.1:${broker},SASL_SSL://localhost:${port}`,
      "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
      "sasl.enabled.mechanisms": "SCRAM-SHA-256",
      "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config":
        "org.apache.kafka.common.security.scram.ScramLoginModule required;",
      "ssl.keystore.type": "PEM",
      "ssl.keystore.location": keyStore,
      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      "super.users": "User:ANONYMOUS",
    }),
  });
  const alter = ["--alter", "--add-config", `SCRAM-SHA-256=[password=${PASSWORD}]`, "--entity-type", "users"];
  for (const user of ["cdc", "router"]) {
    const command = ["kafka.admin.ConfigCommand", "--bootstrap-server", kafka.brokers, ...alter, "--entity-name", user];
    await run([...javaCommand([]), ...command]);
  }
  return { kafka, brokers: `localhost:${port}` };
}

/** What the advice of KAFKA_AUTHORIZATION says, and no more. */
async function grantRights(kafka: LocalKafka): Promise<void> {
  const admin = testClient(kafka.brokers).admin();
  await admin.connect();
  const { TOPIC, GROUP, TRANSACTIONAL_ID } = AclResourceTypes;
  const { ALTER_CONFIGS, CREATE, DESCRIBE, DESCRIBE_CONFIGS, READ, WRITE } = AclOperationTypes;
  const rights: readonly (readonly [string, AclResourceTypes, string, readonly AclOperationTypes[]])[] = [
    ["cdc", TOPIC, `${PREFIX}.`, [CREATE, DESCRIBE, READ, WRITE, DESCRIBE_CONFIGS, ALTER_CONFIGS]],
    ["cdc", GROUP, `${PREFIX}.signals`, [READ]],
    ["cdc", TRANSACTIONAL_ID, `${PREFIX}.cdc`, [DESCRIBE, WRITE]],
    ["router", TOPIC, `${PREFIX}.`, [DESCRIBE, READ]],
    ["router", TOPIC, `${PREFIX}.signals`, [WRITE]],
    ["router", GROUP, `${PREFIX}.`, [READ]],
  ];
  await admin.createAcls({
    acl: rights.flatMap(([user, resourceType, resourceName, operations]) =>
      operations.map((operation) => ({
        ...{ resourceType, resourceName, resourcePatternType: ResourcePatternTypes.PREFIXED },
        ...{ principal: `User:${user}`, host: "*", operation, permissionType: AclPermissionTypes.ALLOW },
      })),
    ),
  });
  await admin.disconnect();
}

type Postgres = Awaited<ReturnType<typeof testPostgres>>;

async function switchTls(postgres: Postgres, { certificate, key }: Certificates): Promise<AsyncDisposable> {
  for (const [name, value] of Object.entries({ ssl_cert_file: certificate, ssl_key_file: key, ssl: "on" }))
    await postgres.query("postgres", `ALTER SYSTEM SET ${name} = '${value}'`);
  const isOn = async () => (await postgres.query("postgres", "SHOW ssl"))[0]?.["ssl"] === "on";
  await postgres.query("postgres", "SELECT pg_reload_conf()");
  expect(await until(isOn, 5_000)).toBe(true);
  return {
    [Symbol.asyncDispose]: async () => {
      for (const name of ["ssl", "ssl_cert_file", "ssl_key_file"]) await postgres.query("postgres", `ALTER SYSTEM RESET ${name}`);
      await postgres.query("postgres", "SELECT pg_reload_conf()");
    },
  };
}

/** The URL of another user, by the name that the certificate is of. */
function asUser(url: string, user: string, options: Readonly<Record<string, string>>): string {
  const target = new URL(url);
  target.username = user;
  target.password = PASSWORD;
  target.hostname = "localhost";
  for (const [name, value] of Object.entries(options)) target.searchParams.set(name, value);
  return target.href;
}

/** Everything that a service shows to anybody, but for its log. */
async function shown({ child, httpUrl }: Service<unknown>): Promise<string> {
  const paths = ["/status", "/metrics", "/health/ready"];
  const pages = await Promise.all(paths.map(async (path) => (await fetch(httpUrl + path)).text()));
  return [...pages, readFileSync(`/proc/${child.pid}/cmdline`, "utf8")].join("\n");
}

const areEqual = (mainUrl: string, replicaUrl: string): Promise<boolean> =>
  compareReplica(mainUrl, replicaUrl, "public.t").then(
    (tables) => tables.every(isEqual),
    () => false,
  );

test("TLS and SCRAM everywhere, least rights everywhere, and no secret in any log, page, span or argument", async () => {
  const [own, other] = [await certificates("own"), await certificates("other")];
  const [main, replica] = await Promise.all([testPostgres(), testReplicaPostgres()]);
  await using _main = await switchTls(main, own);
  await using _replica = await switchTls(replica, own);
  const { kafka, brokers } = await safeKafka(own);
  await grantRights(kafka);
  using spans = collectSpans();
  const services: Service<unknown>[] = [];
  try {
    // main-db: a role that may replicate and read; the replica: one that may make what is its own.
    const name = "security";
    const mainUrl = await main.createDatabase(name);
    const replicaUrl = await replica.createDatabase(name);
    await main.query(name, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    await main.query(name, `INSERT INTO t SELECT n, '${VALUE}' FROM generate_series(1, 50) AS n`);
    for (const [server, rights] of [
      [main, "LOGIN REPLICATION"],
      [replica, "LOGIN"],
    ] as const) {
      await server.query(name, "DROP ROLE IF EXISTS careful");
      await server.query(name, `CREATE ROLE careful ${rights} PASSWORD '${PASSWORD}'`);
    }
    await main.query(name, "GRANT SELECT ON t TO careful");
    await replica.query(name, `GRANT CREATE ON DATABASE ${name} TO careful; GRANT CREATE ON SCHEMA public TO careful`);

    const tls = { sslmode: "verify-full", sslrootcert: own.ca };
    const kafkaEnv = (user: string, { ca }: Certificates, password: string = PASSWORD) => ({
      KAFKA_SSL: "true",
      KAFKA_SSL_CA_FILE: ca,
      KAFKA_SASL_MECHANISM: "scram-sha-256",
      KAFKA_SASL_USERNAME: user,
      KAFKA_SASL_PASSWORD: password,
    });
    const traced = { LOG_LEVEL: "trace", OTEL_EXPORTER_OTLP_ENDPOINT: spans.endpoint, OTEL_BSP_SCHEDULE_DELAY: "200" };
    const logs: string[] = [];
    const logFile = () => logs[logs.push(join(folder, `${logs.length}.log`)) - 1] as string;
    const cdc = (url: string, env: Readonly<Record<string, string>>, brokersAt = brokers) =>
      startCdc({
        brokers: brokersAt,
        topicPrefix: PREFIX,
        databaseUrl: url,
        slot: name,
        logFile: logFile(),
        env: { ...traced, ...env },
      });
    const router = (url: string, env: Readonly<Record<string, string>>, of = "router") =>
      startRouter({
        ...{ brokers, topicPrefix: PREFIX, replicaUrl: url, replicaName: of, logFile: logFile(), env: { ...traced, ...env } },
      });
    const mainAs = asUser(mainUrl, "careful", tls);
    const replicaAs = asUser(replicaUrl, "careful", tls);

    // Each of these is refused, and says which.
    const refused = async (service: Promise<Service<unknown>>): Promise<readonly string[]> =>
      (await refusal(await service)).map(({ code }) => code);
    const withOther = { sslmode: "verify-full", sslrootcert: other.ca };
    const byAddress = (url: string) => url.replace("localhost", "127.0.0.1");
    expect(await refused(cdc(asUser(mainUrl, "careful", withOther), kafkaEnv("cdc", own)))).toEqual(["MAIN_DB_TLS"]);
    expect(await refused(cdc(byAddress(mainAs), kafkaEnv("cdc", own)))).toEqual(["MAIN_DB_TLS"]);
    expect(await refused(cdc(mainAs, kafkaEnv("cdc", other)))).toEqual(["KAFKA_TLS"]);
    expect(await refused(cdc(mainAs, kafkaEnv("cdc", own), byAddress(brokers)))).toEqual(["KAFKA_TLS"]);
    expect(await refused(cdc(mainAs, kafkaEnv("cdc", own, "wrong")))).toEqual(["KAFKA_AUTHENTICATION"]);
    expect(await refused(router(asUser(replicaUrl, "careful", withOther), kafkaEnv("router", own)))).toEqual(["REPLICA_TLS"]);
    expect(await refused(router(byAddress(replicaAs), kafkaEnv("router", own)))).toEqual(["REPLICA_TLS"]);

    const capturing = await cdc(mainAs, kafkaEnv("cdc", own));
    services.push(capturing);
    const applying = await router(replicaAs, kafkaEnv("router", own));
    services.push(applying);
    const equal = () => areEqual(mainUrl, replicaUrl);
    if (!(await until(equal, 30_000, 200))) throw new Error(`never equal:\n${capturing.log()}\n${applying.log()}`);
    // An error about a row: the replica refuses its value.
    await replica.query(name, "ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 15)");
    await main.query(name, `UPDATE t SET v = '${VALUE}${VALUE}' WHERE id = 7`);
    const isHeld = async () => JSON.stringify(await applying.status()).includes("CONSTRAINT_VIOLATED");
    expect(await until(isHeld, 20_000)).toBe(true);
    const hasSpans = () => Promise.resolve(spans.received.some((text) => text.includes("cascade.apply")));
    expect(await until(hasSpans, 10_000)).toBe(true);
    const pages = await Promise.all(services.map(shown));
    const all = [...pages, ...logs.map((file) => readFileSync(file, "utf8")), ...spans.received].join("\n");
    expect(all).toContain("CONSTRAINT_VIOLATED");
    expectNoSecret(all);
    for (const { httpUrl } of services)
      expect((await fetch(`${httpUrl}/status`, { method: "POST", body: "{}" })).status).toBe(405);

    await replica.query(name, "ALTER TABLE t DROP CONSTRAINT short");
    expect(await until(equal, 30_000, 200)).toBe(true);
    // A second start reads what the first one wrote.
    for (const service of services.splice(0)) expect((await service.stop()).code).toBe(0);
    await main.query(name, `UPDATE t SET v = 'second' WHERE id = 8`);
    services.push(await cdc(mainAs, kafkaEnv("cdc", own)), await router(replicaAs, kafkaEnv("router", own)));
    if (!(await until(equal, 30_000, 200))) throw new Error(`never equal again:\n${services.map((one) => one.log()).join("\n")}`);
    for (const service of services.splice(0)) expect((await service.stop()).code).toBe(0);
    for (const server of [main, replica]) await server.query(name, "DROP OWNED BY careful; DROP ROLE careful");
  } finally {
    for (const service of services) await service.kill();
    await kafka.kill();
  }
});

test.if(findMariadb() !== null)(
  "MariaDB over TLS, with rights on its own database alone; a wrong authority or name is refused",
  async () => {
    const [own, other] = [await certificates("mariadb"), await certificates("mariadb-other")];
    const [main, kafka] = await Promise.all([testPostgres(), testKafka()]);
    const server = await startMariadb({
      dir: join(makeRunFolder("runs"), "safe-mariadb"),
      removeWhenOrphaned: true,
      settings: { "ssl-cert": own.certificate, "ssl-key": own.key, "ssl-ca": own.ca },
    });
    const name = "security_mariadb";
    const services: Service<unknown>[] = [];
    try {
      const mainUrl = await main.createDatabase(name);
      await main.query(name, "CREATE TABLE t (id int PRIMARY KEY, v text)");
      await main.query(name, `INSERT INTO t SELECT n, '${VALUE}' FROM generate_series(1, 50) AS n`);
      const replicaUrl = await server.createDatabase(name);
      await server.query("mysql", `CREATE USER careful@'%' IDENTIFIED BY '${PASSWORD}' REQUIRE SSL`);
      await server.query("mysql", `GRANT ALL ON ${name}.* TO careful@'%'`);
      const common = { brokers: kafka.brokers, topicPrefix: name };
      const router = (url: string) => startRouter({ ...common, replicaUrl: url, replicaName: "mariadb" });
      const careful = asUser(replicaUrl, "careful", { "ssl-ca": own.ca });
      const wrong = [asUser(replicaUrl, "careful", { "ssl-ca": other.ca }), careful.replace("localhost", "127.0.0.1")];
      for (const url of wrong) expect((await refusal(await router(url))).map(({ code }) => code)).toEqual(["REPLICA_TLS"]);
      services.push(await startCdc({ ...common, databaseUrl: mainUrl, slot: name }), await router(careful));
      const equal = () => areEqual(mainUrl, replicaUrl);
      if (!(await until(equal, 30_000, 200))) throw new Error(services.map((service) => service.log()).join("\n"));
      for (const service of services.splice(0)) expect((await service.stop()).code).toBe(0);
    } finally {
      for (const service of services) await service.kill();
      await server.kill();
    }
  },
);
