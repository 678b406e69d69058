import { expect, test } from "bun:test";
import { captureService } from "@cascade/cdc/src/capture.ts";
import { readCdcConfig } from "@cascade/cdc/src/config.ts";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { readRouterConfig } from "@cascade/shard-router/src/config.ts";
import { routingService } from "@cascade/shard-router/src/routing.ts";
import { CascadeError } from "@cascade/shared/errors";
import { createLogger } from "@cascade/shared/logging";
import type { Service, ServiceContext } from "@cascade/shared/service";
import { ServiceHealth } from "@cascade/shared/service-health";
import { SILENT_TELEMETRY } from "@cascade/shared/testing/silent-telemetry";
import { moreChanges, startLoad } from "../load.ts";
import type { TcpProxy } from "../tcp-proxy.ts";
import { type FaultLab, openFaultLab } from "./lab.ts";

/** A server that goes away is never a reason to exit, whichever question of a start it leaves without an answer. */

/** Of what a server says to a service that starts: each cut comes this much later than the one before, or by a byte for every few. */
const STEP_BYTES = 40;
const STEP_RATIO = 1.12;

interface Start {
  readonly link: TcpProxy;
  readonly service: (context: ServiceContext) => Service;
}

function cdcOn(lab: FaultLab, mode: string): Start {
  const link = lab.link("cdc - main-db");
  const config = readCdcConfig({
    CDC_DATABASE_URL: lab.pipeline.mainUrl.replace(/:\d+\//, `:${link.port}/`),
    CDC_MODE: mode,
    CDC_SLOT: lab.pipeline.name,
    KAFKA_BROKERS: lab.link("cdc - Kafka").address,
    KAFKA_TOPIC_PREFIX: lab.pipeline.name,
  });
  return { link, service: (context) => captureService(config, context) };
}

function routerOn(lab: FaultLab, engine: "postgres" | "mariadb"): Start {
  const link = lab.link(engine === "postgres" ? "router - PostgreSQL" : "router - MariaDB");
  const url = lab.pipeline.replicas.find(({ name }) => name === engine)?.url ?? "";
  const config = readRouterConfig({
    REPLICA_URL: url.replace(/:\d+\//, `:${link.port}/`),
    REPLICA_NAME: engine,
    KAFKA_BROKERS: lab.link("router - Kafka").address,
    KAFKA_TOPIC_PREFIX: lab.pipeline.name,
  });
  return { link, service: (context) => routingService(config, context) };
}

/** How a life ends whose connections to its database are reset after that many bytes; null when it runs before. */
async function endOf({ link, service }: Start, bytes: number): Promise<unknown> {
  const running = Promise.withResolvers<null>();
  const health = new ServiceHealth();
  health.running = () => running.resolve(null);
  const stop = new AbortController();
  void link.resetAfter("down", bytes).then(() => link.cut());
  const life = service({ logger: createLogger("starts", "silent"), telemetry: SILENT_TELEMETRY, health }).live(stop.signal);
  const end = await Promise.race([
    running.promise,
    life.then(
      () => new Error("it has ended"),
      (error: unknown) => error,
    ),
  ]);
  stop.abort();
  await link.heal();
  await life.catch(() => undefined);
  return end;
}

test.each(["cdc: stream", "cdc: poll", "router: postgres", "router: mariadb"] as const)(
  "its database is cut off anywhere in a start, and it says so: %s",
  async (which) => {
    const [service = "", kind = ""] = which.split(": ");
    const engines = ["postgres", "mariadb"] as const;
    await using lab = await openFaultLab({ name: `faults_starts_${kind}`, engines, schema: createDemoSchema });
    // What a second start finds: a slot, topics, tables.
    const services = [await lab.cdc(), ...(await Promise.all(engines.map((engine) => lab.router(engine))))];
    for (const one of services) await one.ready();
    const load = startLoad(lab.pipeline.mainUrl, { seed: 8, changesPerSecond: 300 });
    await moreChanges(load, 50);
    await load.stop();
    await lab.pipeline.expectEqual();
    for (const one of services) await one.stop();
    const start = service === "cdc" ? cdcOn(lab, kind) : routerOn(lab, kind as "postgres" | "mariadb");
    let cuts = 0;
    for (let bytes = STEP_BYTES; ; bytes = Math.ceil(Math.max(bytes + STEP_BYTES, bytes * STEP_RATIO))) {
      const end = await endOf(start, bytes);
      if (end === null) break;
      cuts++;
      if (!(end instanceof CascadeError)) throw new Error(`cut after ${bytes} bytes`, { cause: end });
      expect({ bytes, verdict: end.verdict }).toEqual({ bytes, verdict: "retry" });
    }
    expect(cuts).toBeGreaterThan(10);
  },
  180_000,
);
