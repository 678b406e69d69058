import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "@cascade/local/paths.ts";

/** What docs/security.md says of the containers, as far as their files tell it; containers-run.test.ts asks the containers themselves. */

interface ComposeService {
  readonly build?: { readonly dockerfile?: string };
  readonly ports?: readonly string[];
  readonly environment?: Readonly<Record<string, unknown>>;
  readonly image?: string;
  readonly volumes?: readonly string[];
}

const textOf = (file: string): string => readFileSync(join(repository, file), "utf8");
const { services } = Bun.YAML.parse(textOf("docker-compose.yml")) as {
  readonly services: Readonly<Record<string, ComposeService>>;
};
const DOCKERFILES = ["cdc/Dockerfile", "shard-router/Dockerfile", "workload/Dockerfile"];
const ours = Object.entries(services).filter(([, { build }]) => DOCKERFILES.includes(build?.dockerfile ?? ""));

test("the services are those that this file asks of", () => {
  expect(ours.map(([name]) => name)).toEqual([
    ...["cdc", "shard-router", "workload", "router-mariadb", "router-sqlite", "router-duckdb"],
  ]);
});

test.each(ours)("%s: root is read-only, no capability, no way to gain one, nothing but /data to write to", (_name, service) => {
  expect(service).toMatchObject({ init: true, read_only: true, cap_drop: ["ALL"], security_opt: ["no-new-privileges:true"] });
  for (const loosened of [
    "cap_add",
    "privileged",
    "user",
    "tmpfs",
    "devices",
    "network_mode",
    "pid",
    "ipc",
    "entrypoint",
    "command",
  ])
    expect(service).not.toHaveProperty(loosened);
  for (const volume of service.volumes ?? []) expect(volume).toMatch(/^[a-z-]+:\/data$/);
});

test.each(Object.entries(services))(
  "%s is published on the loopback interface alone, from an image of a fixed version",
  (_name, service) => {
    for (const port of service.ports ?? []) expect(port).toStartWith("127.0.0.1:");
    if (service.build === undefined) expect(service.image).toMatch(/:v?\d+[\w.-]*$/);
  },
);

interface Depending extends ComposeService {
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: object;
  readonly restart?: string;
}

test("whoever waits for another waits for its health, and everything but the workload, which serves nobody, has a check of it", () => {
  for (const [name, service] of Object.entries(services as Readonly<Record<string, Depending>>)) {
    expect(service.restart).toBe("unless-stopped");
    if (name !== "workload") expect({ name, ...service }).toHaveProperty("healthcheck");
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      expect({ other, condition }).toEqual({ other, condition: "service_healthy" });
      expect(services).toHaveProperty(other);
    }
  }
});

test("Prometheus looks for every service that has metrics", () => {
  const { scrape_configs: jobs } = Bun.YAML.parse(textOf("observability/prometheus.yml")) as {
    readonly scrape_configs: readonly { readonly dns_sd_configs: readonly { readonly names: readonly string[] }[] }[];
  };
  const names = jobs.flatMap(({ dns_sd_configs }) => dns_sd_configs.flatMap((config) => config.names));
  expect(names.sort()).toEqual(
    ours
      .map(([name]) => name)
      .filter((name) => name !== "workload")
      .sort(),
  );
});

test.each(DOCKERFILES)("%s: user 1000 by number, files that are root's, no secret in a layer", (file) => {
  const stages = textOf(file).split(/^FROM /m);
  const instructions = (stages.at(-1) ?? "").split("\n");
  const users = instructions.filter((line) => line.startsWith("USER "));
  expect(users).toEqual(["USER 1000:1000"]);
  // What runs is the service itself, told nothing by arguments.
  expect(instructions.filter((line) => /^(CMD|ENTRYPOINT) /.test(line))).toEqual(['CMD ["bun", "src/main.ts"]']);
  expect(textOf(file)).not.toMatch(/^COPY .*--chown|^ADD |^(ENV|ARG) .*(PASSWORD|SECRET|TOKEN|URL)/im);
});

test("no local secret, history or test gets into an image", () => {
  const ignored = textOf(".dockerignore").split("\n");
  for (const pattern of [".git", ".cascade", "**/node_modules", "**/.env*", "**/test", "**/*.test.ts"])
    expect(ignored).toContain(pattern);
});

test("the commands that docs/docker.md shows keep it so", () => {
  const commands = textOf("docs/docker.md").match(/^docker run (?:.*\\\n)*.*$/gm) ?? [];
  expect(commands).toHaveLength(2);
  for (const command of commands) expect(command).toContain("--init --read-only --cap-drop ALL --security-opt no-new-privileges");
});
