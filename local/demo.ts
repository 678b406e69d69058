import { rmSync } from "node:fs";
import { seedFromEnvironment } from "@cascade/workload/random";
import { runWorkload } from "@cascade/workload/workload";
import { Client } from "pg";
import { type CatchUp, untilCaughtUp } from "./catch-up.ts";
import { type DemoOptions, parseDemoOptions, UsageError, usage } from "./demo-options.ts";
import { adviceOf, type DemoMoment, type Screen, screenOn, troubleOf, verdictTable } from "./demo-screen.ts";
import { type DemoStack, Started, startDemoStack } from "./demo-stack.ts";
import { onInterrupt } from "./interrupt.ts";
import { makeRunFolder } from "./run-folder.ts";
import { setUp } from "./setup.ts";

const exitUsage = 78;

async function main(args: readonly string[], interrupted: AbortSignal): Promise<number> {
  const screen = screenOn(process.stdout);
  const options = parseDemoOptions(args);
  if (options === null) {
    screen.say(usage);
    return 0;
  }
  await unlessInterrupted(setUp(), interrupted);
  const folder = makeRunFolder("demo");
  const started = new Started();
  try {
    screen.say("Starting PostgreSQL, Kafka, cdc and the routers ...");
    const startedAt = performance.now();
    const stack = await unlessInterrupted(startDemoStack(folder, options, started), interrupted);
    screen.say(addresses(stack, (performance.now() - startedAt) / 1000));
    return await new Demo(stack, options, screen, interrupted).run();
  } finally {
    screen.say("Ending ...");
    await started.stop();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class InterruptedError extends Error {}

async function unlessInterrupted<T>(work: Promise<T>, interrupted: AbortSignal): Promise<T> {
  const end = Promise.withResolvers<never>();
  const stop = (): void => end.reject(new InterruptedError());
  if (interrupted.aborted) stop();
  interrupted.addEventListener("abort", stop);
  try {
    return await Promise.race([work, end.promise]);
  } finally {
    interrupted.removeEventListener("abort", stop);
  }
}

function addresses({ mainUrl, kafka, cdc, replicas }: DemoStack, seconds: number): string {
  return [
    `Running after ${seconds.toFixed(1)} s:`,
    `  main-db    ${mainUrl}`,
    `  Kafka      ${kafka.brokers}`,
    `  cdc        ${cdc.httpUrl}/status`,
    ...replicas.flatMap(({ name, url, router }) => [
      `  ${name.padEnd(10)} ${withoutPassword(url)}`,
      `             ${router.httpUrl}/status`,
    ]),
  ].join("\n");
}

/** The demo's own password is no secret, a user's is. */
function withoutPassword(url: string): string {
  return url.replace(/^(\w+:\/\/[^:/@]+):(?!cascade@)[^@]*@/, "$1:***@").replace(/([?&]password=)[^&]*/g, "$1***");
}

/** One run over a stack that is up. */
class Demo {
  readonly #stack: DemoStack;
  readonly #options: DemoOptions;
  readonly #screen: Screen;
  readonly #interrupted: AbortSignal;
  readonly #startedAt = performance.now();
  #phase = "running";
  #written = 0;

  constructor(stack: DemoStack, options: DemoOptions, screen: Screen, interrupted: AbortSignal) {
    this.#stack = stack;
    this.#options = options;
    this.#screen = screen;
    this.#interrupted = interrupted;
  }

  /** Resolves with the exit status. */
  async run(): Promise<number> {
    const { cdc, replicas } = this.#stack;
    const died = Promise.race([cdc.died, ...replicas.map(({ router }) => router.died)]).then((error) => {
      throw error;
    });
    const ended = new AbortController();
    const showing = this.#showUntil(ended.signal);
    try {
      await unlessInterrupted(Promise.race([this.#write(), died]), this.#interrupted);
      this.#phase = "catching up";
      const caughtUp = await unlessInterrupted(Promise.race([this.#catchUp(), died]), this.#interrupted);
      ended.abort();
      await showing;
      return this.#verdict(caughtUp);
    } finally {
      ended.abort();
      await showing;
    }
  }

  async #write(): Promise<void> {
    const { seconds, changesPerSecond } = this.#options;
    const signal =
      seconds === null ? this.#interrupted : AbortSignal.any([this.#interrupted, AbortSignal.timeout(seconds * 1000)]);
    const client = new Client({ connectionString: this.#stack.mainUrl });
    client.on("error", () => {});
    await client.connect();
    try {
      const onProgress = ({ changes }: { readonly changes: number }): void => {
        this.#written = changes;
      };
      await runWorkload(client, { seed: seedFromEnvironment(), changesPerSecond, signal, onProgress });
    } finally {
      await client.end();
    }
  }

  #catchUp(): Promise<CatchUp> {
    const { mainUrl, replicas } = this.#stack;
    const progress = async (): Promise<string> => {
      const { cdc, routers } = await this.#moment();
      return JSON.stringify([cdc?.eventsTotal, routers.map(({ status }) => status?.eventsTotal)]);
    };
    return untilCaughtUp({ mainUrl, replicas, progress, signal: this.#interrupted });
  }

  async #moment(): Promise<DemoMoment> {
    const { cdc, replicas } = this.#stack;
    const routers = replicas.map(async ({ name, router }) => ({ name, status: await router.status().catch(() => null) }));
    return {
      seconds: (performance.now() - this.#startedAt) / 1000,
      phase: this.#phase,
      written: this.#written,
      cdc: await cdc.status().catch(() => null),
      routers: await Promise.all(routers),
    };
  }

  async #showUntil(ended: AbortSignal): Promise<void> {
    const everyMs = process.stdout.isTTY ? 250 : 1000;
    const unseen = new Set(this.#stack.replicas.map(({ name }) => name));
    for (let next = performance.now(); !ended.aborted; next += everyMs) {
      const moment = await this.#moment();
      for (const { name, status } of moment.routers)
        if (status !== null && status.eventsTotal > 0 && unseen.delete(name))
          this.#screen.say(`First rows on ${name} ${(performance.now() / 1000).toFixed(1)} s after the command.`);
      if (unseen.size === 0 || moment.seconds > 1) this.#screen.show(moment);
      const wait = Promise.withResolvers<void>();
      ended.addEventListener("abort", () => wait.resolve(), { once: true });
      await Promise.race([Bun.sleep(Math.max(10, next + everyMs - performance.now())), wait.promise]);
    }
  }

  async #verdict({ equal, replicas }: CatchUp): Promise<number> {
    this.#screen.show(await this.#moment());
    this.#screen.say(`\n${verdictTable(replicas)}`);
    for (const { name, problem } of replicas) if (problem !== null) this.#screen.say(`${name} could not be compared: ${problem}`);
    if (equal) {
      this.#screen.say(`\nEqual: every table of every replica holds main-db's rows, after ${this.#written} changes.`);
      return 0;
    }
    this.#screen.say("\nNOT EQUAL: for 60 s nothing has moved any more.");
    const { cdc, routers } = await this.#moment();
    for (const { name, status } of [{ name: "cdc", status: cdc }, ...routers]) {
      const trouble = troubleOf(status);
      if (trouble !== null) this.#screen.say([`${name}: ${trouble}`, ...adviceOf(status)].join("\n  "));
    }
    return 1;
  }
}

const interrupt = new AbortController();
onInterrupt(() => interrupt.abort());
try {
  process.exitCode = await main(process.argv.slice(2), interrupt.signal);
} catch (error) {
  if (error instanceof UsageError) process.stderr.write(`${error.message}\n\n${usage}`);
  else if (!(error instanceof InterruptedError)) process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = error instanceof UsageError ? exitUsage : error instanceof InterruptedError ? 0 : 1;
}
process.exit();
