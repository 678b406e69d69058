import { expect } from "bun:test";
import type { RouterStatus, TableStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";

/** What a service said as it ended with status 78. */
export interface Finding {
  readonly level: string;
  readonly code: string;
  readonly advice: string;
  readonly msg: string;
}

/** Texts that stand for what no log, error or status may show: a password, and the values of rows. */
export const SECRETS = ["pa55-w0rd", "r0w-value"] as const;

export function expectNoSecret(text: string): void {
  for (const secret of SECRETS) if (text.includes(secret)) throw new Error(`"${secret}" is told: ${text.slice(0, 2_000)}`);
}

/** Resolves with the reasons when the service has refused to go on, and said nothing that is secret. */
export async function refusal(service: Service<unknown>): Promise<readonly Finding[]> {
  const exit = await Promise.race([service.child.exited, Bun.sleep(20_000)]);
  if (!exit) throw new Error(`${service.name} goes on:\n${service.log()}`);
  expect(exit).toEqual({ code: 78, signal: null });
  expectNoSecret(service.log());
  const lines = service.log().split("\n");
  return lines.filter((line) => line.startsWith("{")).flatMap((line) => fatalOf(JSON.parse(line) as Finding));
}

const fatalOf = (line: Finding): readonly Finding[] => (line.level === "fatal" ? [line] : []);

/** Resolves when the service tries again for this reason, and says so where it is asked. */
export async function retrying(service: Service<unknown>, code: string): Promise<void> {
  let told = "";
  const ask = async (): Promise<string> => (await fetch(`${service.httpUrl}/health/ready`)).text();
  const said = await until(async () => {
    told = await ask().catch(() => "");
    return told.includes(code);
  }, 20_000);
  if (!said) throw new Error(`${service.name} does not say ${code}: ${told}\n${service.log()}`);
  expectNoSecret(told + service.log() + JSON.stringify(await service.status()));
}

/** Resolves with why a table stands still; its router is not ready then, and tells nothing secret. */
export async function held(router: Service<RouterStatus>, table: string): Promise<NonNullable<TableStatus["error"]>> {
  let found: TableStatus["error"] = null;
  const stands = await until(async () => {
    // It may not answer yet: whoever is held from the beginning is never ready before.
    const status = await router.status().catch(() => null);
    found = status?.tables.find((one) => one.table === table)?.error ?? null;
    return found !== null;
  }, 20_000);
  const status = await router.status();
  if (!stands || found === null) throw new Error(`${table} is not held: ${JSON.stringify(status)}\n${router.log()}`);
  expect(status.reasons.join()).toContain(`${table} is held: `);
  expect((await fetch(`${router.httpUrl}/health/ready`)).status).toBe(503);
  expectNoSecret(JSON.stringify(status) + router.log());
  return found;
}
