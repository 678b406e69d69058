import type { CdcStatus, RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import type { FaultLab } from "../faults/lab.ts";
import type { Engine } from "../pipeline.ts";

/** A service that is started again with the same settings. */
export interface Post<Status = CdcStatus | RouterStatus> {
  readonly name: string;
  current(): Service<Status>;
  start(): Promise<void>;
}

/** What a history strikes at: a pipeline through proxies, and its services, which come and go. */
export interface Field {
  readonly lab: FaultLab;
  readonly cdc: Post;
  readonly routers: readonly (Post & { readonly engine: Engine })[];
}

export async function openField(lab: FaultLab, engines: readonly Engine[]): Promise<Field> {
  const cdc = await post("cdc", () => lab.cdc());
  const routers = await Promise.all(
    engines.map(async (engine) => ({ engine, ...(await post(`router of ${engine}`, () => lab.router(engine))) })),
  );
  return { lab, cdc, routers };
}

async function post(name: string, open: () => Promise<Service<CdcStatus> | Service<RouterStatus>>): Promise<Post> {
  let current = (await open()) as Service<CdcStatus | RouterStatus>;
  return {
    name,
    current: () => current,
    start: async () => {
      current = (await open()) as Service<CdcStatus | RouterStatus>;
    },
  };
}
