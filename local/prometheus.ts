import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { onFreePort } from "./ports.ts";
import { findPrometheus } from "./prometheus-install.ts";
import { type Server, serverOf } from "./server.ts";

export interface LocalPrometheus extends Server {
  readonly url: string;
  /** An instant query, with the series that it finds. Rejects with Prometheus' own message when it is none. */
  query(promql: string): Promise<readonly Series[]>;
  /** Asks its HTTP API, `path` after /api/v1/: the answer's `data`. */
  api<Data>(path: string): Promise<Data>;
}

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface PrometheusOptions {
  readonly dir: string;
  /** As in prometheus.yml, but for the rules. JSON is YAML. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly ruleFiles?: readonly string[];
  readonly removeWhenOrphaned?: boolean;
}

/** A real Prometheus, reachable on the loopback interface alone. */
export async function startPrometheus(options: PrometheusOptions): Promise<LocalPrometheus> {
  const install = findPrometheus();
  if (install === null) throw new Error("Prometheus is missing: run `bun local/setup.ts --prometheus`.");
  const dir = resolve(options.dir);
  mkdirSync(dir, { recursive: true });
  const config = join(dir, "prometheus.yml");
  writeFileSync(config, JSON.stringify({ ...options.settings, rule_files: options.ruleFiles ?? [] }));
  return onFreePort(undefined, async (port) => {
    const url = `http://127.0.0.1:${port}`;
    const server = serverOf({
      name: "Prometheus",
      command: [
        install.server,
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(dir, "data")}`,
        `--web.listen-address=127.0.0.1:${port}`,
        // Its pages are Debian's own folder, and nobody looks at them here.
        `--web.console.libraries=${dir}`,
        `--web.console.templates=${dir}`,
      ],
      child: {
        cwd: dir,
        logFile: join(dir, "prometheus.log"),
        ...(options.removeWhenOrphaned ? { removeWhenOrphaned: dir } : {}),
      },
      answers: async () => (await fetch(`${url}/-/ready`, { signal: AbortSignal.timeout(1_000) })).ok,
      stopSignal: "SIGTERM",
    });
    await server.start();
    return { ...server, url, api: (path) => askPrometheus(url, path), query: (promql) => queryPrometheus(url, promql) };
  });
}

/** Of a Prometheus anywhere: see LocalPrometheus. */
export const queryPrometheus = async (url: string, promql: string): Promise<readonly Series[]> =>
  seriesOf(await askPrometheus(url, `query?query=${encodeURIComponent(promql)}`));

async function askPrometheus<Data>(url: string, path: string): Promise<Data> {
  const answer = (await (await fetch(`${url}/api/v1/${path}`)).json()) as Answer<Data>;
  if (answer.status !== "success") throw new Error(`${path}: ${answer.error}`);
  return answer.data;
}

type Answer<Data> = { readonly status: "success"; readonly data: Data } | { readonly status: "error"; readonly error: string };

interface Vector {
  readonly result: readonly { readonly metric: Readonly<Record<string, string>>; readonly value: readonly [number, string] }[];
}

const seriesOf = ({ result }: Vector): readonly Series[] =>
  result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
