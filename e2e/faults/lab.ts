import type { LocalMariadb } from "@cascade/local/mariadb.ts";
import { testFaultKafka, testMariadb } from "@cascade/local/servers.ts";
import type { CdcStatus, RouterStatus } from "@cascade/local/service-status.ts";
import type { CdcOptions, RouterOptions, Service } from "@cascade/local/stack.ts";
import { type Engine, openPipeline, type Pipeline, type PipelineOptions } from "../pipeline.ts";
import { openTcpProxy, type TcpProxy } from "../tcp-proxy.ts";

/** Where a proxy of ours stands: between cdc and main-db, each service and Kafka, each router and its server. */
export type LinkName = "cdc - main-db" | "cdc - Kafka" | "router - Kafka" | "router - PostgreSQL" | "router - MariaDB";

/** A pipeline whose every connection goes through a proxy. */
export interface FaultLab extends AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly links: ReadonlyMap<LinkName, TcpProxy>;
  link(name: LinkName): TcpProxy;
  readonly mariadb: LocalMariadb | null;
  cdc(more?: Partial<CdcOptions>): Promise<Service<CdcStatus>>;
  router(engine: Engine, more?: Partial<RouterOptions>): Promise<Service<RouterStatus>>;
}

export async function openFaultLab(options: Omit<PipelineOptions, "kafka">): Promise<FaultLab> {
  const ways = await testFaultKafka();
  const withMariadb = options.engines?.includes("mariadb") ?? false;
  const mariadb = withMariadb ? await testMariadb() : null;
  const pipeline = await openPipeline({ ...options, kafka: ways.kafka });
  const links = new Map<LinkName, TcpProxy>([
    ["cdc - main-db", await openTcpProxy(pipeline.main.port)],
    ["cdc - Kafka", await openTcpProxy(ways.cdc.target, ways.cdc.proxy)],
    ["router - Kafka", await openTcpProxy(ways.router.target, ways.router.proxy)],
    ["router - PostgreSQL", await openTcpProxy(pipeline.replicaServer.port)],
  ]);
  if (mariadb !== null) links.set("router - MariaDB", await openTcpProxy(mariadb.port));
  const link = (name: LinkName): TcpProxy => {
    const found = links.get(name);
    if (found === undefined) throw new Error(`there is no link ${name}`);
    return found;
  };
  const through = (url: string, proxy: TcpProxy): string => url.replace(/:\d+\//, `:${proxy.port}/`);
  const replicaUrl = (engine: Engine): string => {
    const url = pipeline.replicas.find(({ name }) => name === engine)?.url ?? "";
    if (engine === "postgres") return through(url, link("router - PostgreSQL"));
    return engine === "mariadb" ? through(url, link("router - MariaDB")) : url;
  };
  return {
    pipeline,
    links,
    link,
    mariadb,
    cdc: (more) =>
      pipeline.cdc({
        databaseUrl: through(pipeline.mainUrl, link("cdc - main-db")),
        brokers: link("cdc - Kafka").address,
        ...more,
      }),
    router: (engine, more) =>
      pipeline.router(engine, { replicaUrl: replicaUrl(engine), brokers: link("router - Kafka").address, ...more }),
    [Symbol.asyncDispose]: async () => {
      await pipeline[Symbol.asyncDispose]();
      for (const proxy of links.values()) await proxy[Symbol.asyncDispose]();
    },
  };
}
