import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "@cascade/local/command.ts";
import { readDashboards, unanswered } from "@cascade/local/dashboards.ts";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { repository } from "@cascade/local/paths.ts";
import { type LocalPrometheus, startPrometheus } from "@cascade/local/prometheus.ts";
import { findPrometheus } from "@cascade/local/prometheus-install.ts";
import { makeRunFolder } from "@cascade/local/run-folder.ts";
import { until } from "@cascade/local/wait.ts";
import { INSTRUMENTS } from "@cascade/shared/instruments";
import { seedFromEnvironment } from "@cascade/workload/random";
import { type Load, moreChanges, startLoad } from "./load.ts";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { collectSpans, type ExportedSpan, type SpanCollector } from "./span-collector.ts";

/** What observability/ promises, asked of a real Prometheus and of every exported span, while a real pipeline works. */

setDefaultTimeout(180_000);

const install = findPrometheus();
const folder = join(repository, "observability");
const rulesFile = join(folder, "alerts.yml");
const rules = Bun.YAML.parse(readFileSync(rulesFile, "utf8")) as {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert: string;
      readonly expr: string;
      readonly annotations: Readonly<Record<string, string>>;
    }[];
  }[];
};
const alerts = rules.groups.flatMap((group) => group.rules);
const panels = readDashboards().flatMap((board) =>
  board.panels.map((panel) => [`${board.title}: ${panel.title}`, panel] as const),
);

let pipeline: Pipeline;
let load: Load;
let prometheus: LocalPrometheus | null = null;
let collector: SpanCollector;
let targets: readonly string[] = [];

beforeAll(async () => {
  collector = collectSpans();
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: "200" };
  pipeline = await openPipeline({ name: "observability", schema: createDemoSchema, env });
  const services = [await pipeline.cdc(), await pipeline.router("postgres"), await pipeline.router("sqlite")];
  for (const service of services) await service.ready();
  targets = services.map(({ httpUrl }) => new URL(httpUrl).host);
  const [cdc, ...routers] = targets;
  const job = (name: string, of: readonly (string | undefined)[]) => ({ job_name: name, static_configs: [{ targets: of }] });
  if (install !== null)
    prometheus = await startPrometheus({
      dir: join(makeRunFolder("runs"), "prometheus"),
      settings: {
        global: { scrape_interval: "1s", evaluation_interval: "1s" },
        scrape_configs: [job("cdc", [cdc]), job("shard-router", routers)],
      },
      ruleFiles: [rulesFile],
      removeWhenOrphaned: true,
    });
  load = startLoad(pipeline.mainUrl, { seed: seedFromEnvironment(), changesPerSecond: 300 });
  await moreChanges(load, 300);
});
afterAll(async () => {
  await load?.stop();
  await prometheus?.[Symbol.asyncDispose]();
  await pipeline?.[Symbol.asyncDispose]();
  collector?.[Symbol.dispose]();
});

const namesIn = (promql: string): readonly string[] => promql.match(/\b(?:cascade|process)_[a-z_]+/g) ?? [];
const known = new Set(
  Object.entries(INSTRUMENTS).flatMap(([name, { kind }]) =>
    kind === "histogram" ? ["_bucket", "_count", "_sum"].map((end) => name + end) : [name],
  ),
);

test.each(panels)("%s: a unit, a description, and metrics that there are", (_name, panel) => {
  expect(panel.unit).not.toBe("");
  expect(panel.description.length).toBeGreaterThan(20);
  const names = panel.queries.flatMap(({ expr }) => namesIn(expr));
  expect(names.length).toBeGreaterThan(0);
  for (const name of names) expect(known).toContain(name);
});

test("every metric of ours is on a panel or in an alert", () => {
  const used = new Set([...panels.flatMap(([, { queries }]) => queries), ...alerts].flatMap(({ expr }) => namesIn(expr)));
  const unseen = [...known].filter((name) => !/_(?:count|sum)$/.test(name) && !used.has(name));
  expect(unseen).toEqual([]);
});

test("an alert's metrics there are, and its section in docs/operations.md", () => {
  const sections = new Set(
    [...readFileSync(join(repository, "docs/operations.md"), "utf8").matchAll(/^### (.+)$/gm)].map((found) => found[1]),
  );
  expect(alerts.length).toBeGreaterThan(15);
  for (const { alert, expr, annotations } of alerts) {
    for (const name of namesIn(expr)) expect(known).toContain(name);
    expect(sections).toContain(alert);
    expect(annotations["runbook"]).toBe(`docs/operations.md#${alert.toLowerCase()}`);
  }
});

test.skipIf(install === null)(
  "promtool: the settings are valid, and each alert rings where it should and nowhere else",
  async () => {
    const promtool = install?.promtool ?? "";
    await run([promtool, "check", "config", join(folder, "prometheus.yml")]);
    await run([promtool, "test", "rules", join(folder, "alerts.test.yml")]);
  },
);

test.skipIf(install === null)("promtool finds no fault with the names and texts of any metric", async () => {
  for (const target of targets) {
    const child = Bun.spawn([install?.promtool ?? "", "check", "metrics"], {
      stdin: await (await fetch(`http://${target}/metrics`)).blob(),
      stdout: "pipe",
      stderr: "pipe",
    });
    const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
    expect({ said, status: await child.exited }).toEqual({ said: "", status: 0 });
  }
});

test.skipIf(install === null)("every panel's query answers, and no alert rings while all is well", async () => {
  const server = prometheus as LocalPrometheus;
  let missed: readonly string[] = [];
  const all = panels.map(([, panel]) => panel);
  const empty = async (): Promise<readonly string[]> => [
    ...(await unanswered(all, "postgres", server.query)),
    ...(await unanswered(all, "sqlite", server.query)),
  ];
  await until(
    async () => {
      missed = await empty();
      return missed.length === 0;
    },
    60_000,
    1_000,
  );
  expect(missed).toEqual([]);
  const { groups } = await server.api<RuleGroups>("rules");
  const judged = groups.flatMap((group) => group.rules);
  expect(judged).toHaveLength(alerts.length);
  expect(judged.filter(({ health, state }) => health !== "ok" || state === "firing")).toEqual([]);
});

test.skipIf(install === null)("every series has the labels that docs/observability.md tells of", async () => {
  const ofScrape = new Set(["__name__", "job", "instance", "le"]);
  for (const [name, instrument] of Object.entries(INSTRUMENTS)) {
    const documented: readonly string[] = "labels" in instrument ? instrument.labels : [];
    const found = await (prometheus as LocalPrometheus).query(instrument.kind === "histogram" ? `${name}_bucket` : name);
    for (const { metric } of found)
      expect({
        name,
        labels: Object.keys(metric)
          .filter((label) => !ofScrape.has(label))
          .sort(),
      }).toEqual({
        name,
        labels: [...documented].sort(),
      });
  }
});

interface RuleGroups {
  readonly groups: readonly {
    readonly rules: readonly { readonly name: string; readonly health: string; readonly state: string }[];
  }[];
}

test("one trace goes from the capture of a batch to its commit on each replica", async () => {
  await load.stop();
  await pipeline.expectEqual();
  const replicas = ["postgres", "sqlite"];
  const of = (name: string, parent?: ExportedSpan) =>
    collector.spans.filter((span) => span.name === name && (parent === undefined || isChild(span, parent)));
  const isChild = (span: ExportedSpan, parent: ExportedSpan) =>
    span.traceId === parent.traceId && span.parentSpanId === parent.spanId;
  const onReplica = (span: ExportedSpan, replica: string) => span.attributes["cascade.replica"] === replica;
  const whole = (capture: ExportedSpan) => {
    const [publish] = of("cascade.publish", capture);
    if (publish === undefined) return null;
    const applied = replicas.map((replica) => {
      const apply = of("cascade.apply", publish).find((span) => onReplica(span, replica));
      const commit = apply === undefined ? undefined : of("cascade.commit", apply)[0];
      return { apply, commit };
    });
    return applied.every(({ commit }) => commit !== undefined) ? { capture, publish, applied } : null;
  };
  const firstWhole = () => {
    for (const capture of of("cascade.capture").slice(0, 50)) {
      const found = whole(capture);
      if (found !== null) return found;
    }
    return null;
  };
  await until(async () => firstWhole() !== null, 20_000, 500);
  const trace = firstWhole();
  if (trace === null) throw new Error(`no whole trace among ${collector.spans.length} spans`);
  expect(trace.capture).toMatchObject({
    service: "cdc",
    parentSpanId: "",
    attributes: { "db.system.name": "postgresql", "db.namespace": "observability" },
  });
  expect(trace.publish.attributes).toMatchObject({
    "messaging.system": "kafka",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
  });
  for (const [at, { apply, commit }] of trace.applied.entries()) {
    const replica = replicas[at] ?? "";
    expect(apply).toMatchObject({
      service: "shard-router",
      attributes: {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": `observability.${replica}`,
        "cascade.replica": replica,
      },
    });
    expect(commit?.attributes).toMatchObject({
      "db.system.name": replica.replace("postgres", "postgresql"),
      "cascade.replica": replica,
    });
  }
  // Every span, of whatever trace, says what it is of.
  for (const { name, attributes } of collector.spans) {
    if (name !== "cascade.commit") expect(attributes["cascade.rows"]).toBeGreaterThan(0);
    if (name !== "cascade.apply") expect(attributes["cascade.commit_lsn"]).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
  }
  // What a router merges into one batch is linked where it is not the parent.
  const strayLinks = (): readonly unknown[] => {
    const captured = new Set(of("cascade.capture").map(({ traceId }) => traceId));
    return of("cascade.apply").flatMap((span) => span.links.filter(({ traceId }) => !captured.has(traceId)));
  };
  expect(of("cascade.apply").flatMap((span) => span.links).length).toBeGreaterThan(0);
  await until(async () => strayLinks().length === 0, 10_000); // cdc's and the routers' exporters have each their own time
  expect(strayLinks()).toEqual([]);
});
