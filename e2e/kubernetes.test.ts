import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CDC_SETTINGS, readCdcConfig, unknownCdcVariables } from "@cascade/cdc/src/config.ts";
import { repository } from "@cascade/local/paths.ts";
import { ROUTER_SETTINGS, readRouterConfig, unknownRouterVariables } from "@cascade/shard-router/src/config.ts";
import { CascadeError } from "@cascade/shared/errors";
import { serveHttp } from "@cascade/shared/http";
import { ServiceHealth } from "@cascade/shared/service-health";
import type { Environment, Settings } from "@cascade/shared/settings";
import packageJson from "../package.json";
import {
  build,
  documentsOf,
  isWorkload,
  type Resource,
  readEnvFile,
  readKustomization,
  unlisted,
} from "./kubernetes/kustomization.ts";
import { type Manifest, violations } from "./kubernetes/manifest-violations.ts";

/** deploy/kubernetes, as far as it can be told without a cluster. */

const FOLDER = join(repository, "deploy/kubernetes");
const MONITORING = join(FOLDER, "monitoring");
const textOf = (file: string): string => readFileSync(join(FOLDER, file), "utf8");

const secrets = documentsOf(textOf("secrets.example.yml"));
/** With one more replica of each sort, made as the files say. */
const applied = build(FOLDER, [
  textOf("router-reports.yml").replaceAll("reports", "eu"),
  textOf("router-archive.yml").replaceAll("archive", "laptop"),
]);
const monitored = build(MONITORING);
const everything = [...applied, ...monitored, ...secrets];

const nameOf = ({ kind, metadata }: Resource): string => `${kind} ${metadata.name}`;
const named = (resources: readonly Resource[]) => resources.map((resource) => [nameOf(resource), resource] as const);
const ofKind = (kind: string, among = everything): readonly Resource[] => among.filter((one) => one.kind === kind);
const workloads = applied.filter(isWorkload);
const find = (kind: string, name: string): Resource => {
  const found = everything.find((one) => one.kind === kind && one.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
};
const containerOf = ({ spec }: Resource) => {
  const [container, ...others] = spec.template.spec.containers;
  if (container === undefined || others.length > 0) throw new Error("a pod has one container");
  return container;
};

const temporary = mkdtempSync(join(tmpdir(), "cascade-kubernetes-"));
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

test("what is applied is what this file asks of, and a copied replica is no second one of the same name", () => {
  expect(applied.map(nameOf)).toEqual([
    "Namespace cascade",
    "NetworkPolicy nobody-connects",
    "Deployment cdc",
    "PodDisruptionBudget cdc",
    "Service cdc",
    "Deployment router-reports",
    "PodDisruptionBudget router-reports",
    "Service router-reports",
    "StatefulSet router-archive",
    "Service router-archive",
    "Deployment router-eu",
    "PodDisruptionBudget router-eu",
    "Service router-eu",
    "StatefulSet router-laptop",
    "Service router-laptop",
    "ConfigMap settings",
  ]);
  expect(monitored.map(nameOf)).toEqual([
    "NetworkPolicy prometheus-connects",
    "PrometheusRule cascade",
    "ServiceMonitor cascade",
  ]);
});

test("every file is listed, but for the Secrets, which are the user's and go into no commit and no image", () => {
  const own = (name: string): boolean => name !== "secrets.yml"; // git ignores it
  expect(unlisted(FOLDER).filter(own)).toEqual(["secrets.example.yml"]);
  expect(unlisted(MONITORING)).toEqual([]);
  expect(textOf("../../.gitignore").split("\n")).toContain("deploy/kubernetes/secrets.yml");
  expect(textOf("../../.dockerignore").split("\n")).toContain("deploy");
});

test.each(named(everything))("%s is what the API server takes, field by field", (_name, manifest) => {
  expect(violations(manifest)).toEqual([]);
});

interface Mutable {
  [name: string]: Mutable;
}
const changed = (resource: Manifest, change: (copy: Mutable) => unknown): Manifest => {
  const copy = structuredClone(resource) as unknown as Mutable;
  change(copy);
  return copy as unknown as Manifest;
};
/** A path's end in a copy: lists by their numbers. */
const at = (copy: Mutable, path: string): Mutable => path.split("/").reduce((value, name) => value[name] as Mutable, copy);
const POD = "spec/template/spec";

test.each<[string, string, string, unknown, string]>([
  ["a misspelt field", "Deployment cdc", "spec/replica", 2, "/spec/replica is no field"],
  ["a misplaced one", "Deployment cdc", `${POD}/readOnlyRootFilesystem`, true, "readOnlyRootFilesystem is no field"],
  ["one deep in a list", "Deployment cdc", `${POD}/containers/0/livenessProbe/httpGet/prt`, 1, "/httpGet/prt is no field"],
  [
    "one of a volume claim",
    "StatefulSet router-archive",
    "spec/volumeClaimTemplates/0/spec/size",
    "1Gi",
    "/spec/size is no field",
  ],
  ["a text for a number", "Deployment cdc", "spec/replicas", "2", "must be integer"],
  ["no quantity", "Deployment cdc", `${POD}/containers/0/resources/limits/memory`, "640MiB", "memory must match format"],
  ["a variable that is no text", "Deployment cdc", `${POD}/containers/0/env/0/value`, true, "must be string"],
  ["what must be there", "Deployment cdc", "spec/selector", undefined, "must have required property selector"],
  ["a misspelt word", "Deployment cdc", `${POD}/securityContext/seccompProfile/type`, "RuntimeDefaults", "RuntimeDefaults"],
  ["a word where none is known", "Deployment cdc", `${POD}/dnsPolicy`, "ClusterFrst", "/dnsPolicy is"],
  ["a misspelt word in a list", "NetworkPolicy nobody-connects", "spec/policyTypes/0", "ingress", "/policyTypes/0 is"],
  ["a kind of another group", "PodDisruptionBudget cdc", "apiVersion", "apps/v1", "is no kind"],
  [
    "a field of a ServiceMonitor",
    "ServiceMonitor cascade",
    "spec/endpoints/0/intervall",
    "15s",
    "/endpoints/0/intervall is no field",
  ],
  ["a duration", "ServiceMonitor cascade", "spec/endpoints/0/interval", "15 s", "interval must match pattern"],
  ["a field of a rule", "PrometheusRule cascade", "spec/groups/0/rules/0/annotation", {}, "/rules/0/annotation is no field"],
  [
    "a rule without its expression",
    "PrometheusRule cascade",
    "spec/groups/0/rules/0/expr",
    undefined,
    "must have required property expr",
  ],
])("%s is refused", (_what, resource, path, value, message) => {
  const [kind = "", name = ""] = resource.split(" ");
  const manifest = find(kind, name);
  const [, parent = "", last = ""] = /^(?:(.*)\/)?(.*)$/.exec(path) ?? [];
  const wrong = changed(manifest, (copy) => Object.assign(parent === "" ? copy : at(copy, parent), { [last]: value }));
  expect(violations(manifest)).toEqual([]);
  expect(violations(wrong).join("\n")).toContain(message);
});

test("a kustomization with a field that kustomize does not know here is refused", () => {
  const folder = mkdtempSync(join(temporary, "wrong-"));
  writeFileSync(join(folder, "kustomization.yml"), textOf("kustomization.yml").replace("includeTemplates", "includeTemplate"));
  expect(() => readKustomization(folder)).toThrow("includeTemplate");
  writeFileSync(join(folder, "kustomization.yml"), textOf("kustomization.yml"));
  expect(() => build(folder)).toThrow("namespace.yml");
});

test("the alerts are those of observability/alerts.yml", () => {
  const rules = Bun.YAML.parse(readFileSync(join(repository, "observability/alerts.yml"), "utf8"));
  expect(find("PrometheusRule", "cascade").spec).toEqual(rules as never);
});

const matches = (selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>> = {}): boolean =>
  Object.entries(selector).every(([name, value]) => labels[name] === value);

/** Of a Service a map, of the others `matchLabels`. */
const selectorOf = ({ kind, spec }: Resource): Readonly<Record<string, string>> =>
  kind === "Service" ? (spec.selector as Readonly<Record<string, string>>) : (spec.selector.matchLabels ?? {});
const selecting = applied.filter((one) => isWorkload(one) || ["Service", "PodDisruptionBudget"].includes(one.kind));

test.each(named(selecting))("%s is of the pods of its own name, and of no others", (_name, resource) => {
  const selected = workloads.filter(({ spec }) => matches(selectorOf(resource), spec.template.metadata.labels));
  expect(selected.map(({ metadata }) => metadata.name)).toEqual([resource.metadata.name]);
});

test.each(named(workloads))(
  "%s: spread by its own pods, of the labels that the files beside it have",
  (_name, { metadata, spec }) => {
    const { labels } = spec.template.metadata;
    expect(metadata.labels).toEqual(labels);
    for (const key of ["name", "component", "part-of"]) expect(Object.keys(labels ?? {})).toContain(`app.kubernetes.io/${key}`);
    for (const spread of (spec.template.spec as { topologySpreadConstraints?: { labelSelector: object }[] })
      .topologySpreadConstraints ?? [])
      expect(spread.labelSelector).toEqual(spec.selector);
  },
);

test("ports are called by names that are there", () => {
  for (const service of ofKind("Service")) {
    const ports = containerOf(
      find(workloads.find(({ metadata }) => metadata.name === service.metadata.name)?.kind ?? "", service.metadata.name),
    ).ports;
    for (const { targetPort } of service.spec.ports) expect(ports.map(({ name }) => name)).toContain(targetPort);
    for (const { port } of find("ServiceMonitor", "cascade").spec.endpoints)
      expect(service.spec.ports.map(({ name }) => name)).toContain(port);
  }
  const scraped = find("NetworkPolicy", "prometheus-connects").spec.ingress?.flatMap(({ ports }) => ports) ?? [];
  for (const workload of workloads) {
    const { ports, startupProbe, livenessProbe, readinessProbe } = containerOf(workload);
    for (const { port } of scraped) expect(ports.map(({ name }) => name)).toContain(port);
    for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe])
      if (httpGet !== undefined) expect(ports.map(({ name }) => name)).toContain(String(httpGet.port));
  }
});

test("Prometheus is told of every Service, and let in to every pod", () => {
  const monitor = selectorOf(find("ServiceMonitor", "cascade"));
  for (const { metadata } of ofKind("Service")) expect(matches(monitor, metadata.labels)).toBe(true);
  const policy = find("NetworkPolicy", "prometheus-connects").spec.podSelector.matchLabels ?? {};
  for (const { spec } of workloads) expect(matches(policy, spec.template.metadata.labels)).toBe(true);
  expect(find("NetworkPolicy", "nobody-connects").spec).toEqual({ podSelector: {}, policyTypes: ["Ingress"] } as never);
});

test.each(named(workloads))(
  "%s: no root, no capability, nothing but /data to write to, no token, no foreign variables",
  (_name, workload) => {
    expect(workload.spec.template.spec).toMatchObject({
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
          resources: { requests: { cpu: "250m", memory: "256Mi" } },
        },
      ],
    });
    for (const loosened of ["hostNetwork", "hostPID", "hostIPC", "initContainers", "serviceAccountName"])
      expect(workload.spec.template.spec).not.toHaveProperty(loosened);
    for (const { mountPath, readOnly } of containerOf(workload).volumeMounts)
      expect(readOnly === true || mountPath === "/data").toBe(true);
    expect(Object.keys((containerOf(workload) as never as { securityContext: object }).securityContext)).toHaveLength(3);
  },
);

test("the namespace refuses what is less strict", () => {
  expect(find("Namespace", "cascade").metadata.labels?.["pod-security.kubernetes.io/enforce"]).toBe("restricted");
  for (const { kind, metadata } of applied) if (kind !== "Namespace") expect(metadata.namespace).toBe("cascade");
});

test.each(named(workloads))(
  "%s ends itself before it is killed, and is killed after the alert of its memory",
  (_name, workload) => {
    const deadlineMs = Number(CDC_SETTINGS.SHUTDOWN_TIMEOUT_MS.default);
    expect(workload.spec.template.spec.terminationGracePeriodSeconds * 1000).toBeGreaterThanOrEqual(deadlineMs + 5_000);
    const told = /process_resident_memory_bytes.* > (\d+) \* 1024 \^ 2$/m.exec(textOf("../../observability/alerts.yml"))?.[1];
    const limit = /^(\d+)Mi$/.exec(containerOf(workload).resources.limits.memory)?.[1];
    expect(Number(limit)).toBeGreaterThan(Number(told));
  },
);

test.each(named(workloads))("%s runs an image that there is a Dockerfile for, of this version", (_name, workload) => {
  const [, service = "", tag] = /^registry\.example\.org\/cascade-([a-z-]+):(.*)$/.exec(containerOf(workload).image) ?? [];
  expect(existsSync(join(repository, service, "Dockerfile"))).toBe(true);
  expect(tag).toBe(packageJson.version);
});

const isCdc = ({ metadata }: Resource): boolean => metadata.name === "cdc";

/** What a pod's process would find in its environment, with the Secrets' files in a folder of this test. */
function environmentOf(workload: Resource, settings: Readonly<Record<string, string>>): Environment {
  const { env = [], envFrom = [], volumeMounts } = containerOf(workload);
  expect(envFrom).toEqual([{ configMapRef: { name: "settings" } }]);
  const root = mkdtempSync(join(temporary, "pod-"));
  for (const { name, secret } of workload.spec.template.spec.volumes ?? []) {
    const folder = join(root, volumeMounts.find((mount) => mount.name === name)?.mountPath ?? "nowhere");
    mkdirSync(folder, { recursive: true });
    // A replica that is added has a Secret like that of the example.
    const values = find("Secret", secret.secretName.replace(/-eu$/, "-reports")).stringData ?? {};
    for (const [key, value] of Object.entries(values)) writeFileSync(join(folder, key), value);
  }
  const own = Object.fromEntries(env.map(({ name, value }) => [name, value]));
  expect(Object.keys(own).filter((name) => name in settings)).toEqual([]);
  const all = Object.entries({ ...settings, ...own });
  return Object.fromEntries(all.map(([name, value]) => [name, name.endsWith("_FILE") ? join(root, value) : value]));
}

const unknownNames = (settings: Settings, environment: Environment): readonly string[] =>
  Object.keys(environment).filter(
    (name) => !(name in settings || settings[name.replace(/_FILE$/, "")]?.file || name.startsWith("OTEL_")),
  );

test.each(named(workloads).flatMap(([name, workload]) => [false, true].map((all) => [name, all, workload] as const)))(
  "%s starts with its settings (all that settings.env suggests: %p)",
  (_name, all, workload) => {
    const environment = environmentOf(workload, readEnvFile(join(FOLDER, "settings.env"), all));
    expect(unknownNames(isCdc(workload) ? CDC_SETTINGS : ROUTER_SETTINGS, environment)).toEqual([]);
    if (isCdc(workload)) {
      expect(unknownCdcVariables(environment)).toEqual([]);
      expect(readCdcConfig(environment).KAFKA_SSL).toBe(all);
    } else {
      expect(unknownRouterVariables(environment)).toEqual([]);
      const config = readRouterConfig(environment);
      expect(config.KAFKA_SSL).toBe(all);
      expect(config.replicaName).toBe(workload.spec.template.metadata.labels?.["app.kubernetes.io/instance"] ?? "");
    }
  },
);

test("settings.env suggests what the test above looks at", () => {
  const suggested = readEnvFile(join(FOLDER, "settings.env"), true);
  expect(Object.keys(suggested)).toEqual(
    expect.arrayContaining(["KAFKA_SSL_CA_FILE", "KAFKA_SASL_PASSWORD_FILE", "OTEL_EXPORTER_OTLP_ENDPOINT"]),
  );
});

test("a wrong value of a setting, or a variable of nobody's, is found", () => {
  const cdc = find("Deployment", "cdc");
  const environment = environmentOf(cdc, { KAFKA_BROKERS: "kafka" });
  expect(() => readCdcConfig(environment)).toThrow("KAFKA_BROKERS");
  expect(unknownNames(ROUTER_SETTINGS, environment)).toEqual(["CDC_DATABASE_URL_FILE"]);
});

test("no value of a secret is in an environment, and the example's are no one's", () => {
  for (const workload of workloads)
    for (const { name, value } of containerOf(workload).env ?? [])
      if (/PASSWORD|URL/.test(name)) expect(value).toMatch(/^\/run\/secrets\/|^sqlite:/);
  for (const { stringData = {} } of secrets)
    for (const value of Object.values(stringData)) expect(value).toContain("PLACEHOLDER");
  const mounted = workloads.flatMap(({ spec }) => spec.template.spec.volumes ?? []).map(({ secret }) => secret.secretName);
  expect([...new Set(mounted)].sort()).toEqual(["kafka", "main-db", "replica-eu", "replica-reports"]);
});

test.each(named(ofKind("StatefulSet")))(
  "%s has its file on its own volume, by itself, and time for a long statement",
  (_name, workload) => {
    const { spec, metadata } = workload;
    expect(spec).toMatchObject({ replicas: 1, serviceName: metadata.name, podManagementPolicy: "Parallel" } as never);
    expect(spec.template.spec).toMatchObject({ securityContext: { fsGroup: 1000 } } as never);
    expect(spec.volumeClaimTemplates?.map((claim) => claim.metadata.name)).toEqual(["data"]);
    expect(containerOf(workload).volumeMounts).toContainEqual({ name: "data", mountPath: "/data" });
    expect(containerOf(workload)).toMatchObject({ livenessProbe: { periodSeconds: 30, failureThreshold: 20 } } as never);
  },
);

test.each(named(workloads))("%s is live by /health/live, and a router ready by /health/ready", (_name, workload) => {
  const { startupProbe, livenessProbe, readinessProbe } = containerOf(workload);
  for (const probe of [startupProbe, livenessProbe]) expect(probe.httpGet?.path).toBe("/health/live");
  expect(readinessProbe.httpGet?.path).toBe(isCdc(workload) ? undefined : "/health/ready");
});

/** cdc's own probe, asked of the HTTP server that the services have. Resolves to whether it calls that ready. */
async function probed(health: ServiceHealth): Promise<boolean> {
  const { readinessProbe, ports } = containerOf(find("Deployment", "cdc"));
  await using server = serveHttp({
    host: "127.0.0.1",
    port: 0,
    readiness: () => health.reasons(),
    status: () => ({}),
    metrics: async () => "",
  });
  const command = readinessProbe.exec?.command ?? [];
  expect(command.at(-1)).toContain(`/${ports[0]?.containerPort} `);
  const bash = Bun.spawn(
    command.map((part) => part.replace(`/${ports[0]?.containerPort} `, `/${server.port} `)),
    {
      stdout: "ignore",
      stderr: "ignore",
    },
  );
  return (await bash.exited) === 0;
}

const failed = (code: "SLOT_ACTIVE" | "MAIN_DB_AWAY"): ServiceHealth => {
  const health = new ServiceHealth();
  health.failed(new CascadeError({ code, verdict: "retry", message: "as it is", advice: "none" }));
  return health;
};

test("cdc is ready when it works or waits for who works, and not when it has no connection", async () => {
  const working = new ServiceHealth();
  working.running();
  expect(await probed(working)).toBe(true);
  expect(await probed(failed("SLOT_ACTIVE"))).toBe(true);
  expect(await probed(failed("MAIN_DB_AWAY"))).toBe(false);
  expect(await probed(new ServiceHealth())).toBe(false);
});

test("one cdc stays while another is made: neither an upgrade nor a drained node takes both", () => {
  expect(find("Deployment", "cdc").spec).toMatchObject({
    replicas: 2,
    strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
  } as never);
  for (const budget of ofKind("PodDisruptionBudget"))
    expect(budget.spec).toMatchObject({ maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" } as never);
});
