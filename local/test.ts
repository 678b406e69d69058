import { type Child, spawnChild } from "./child.ts";
import { onInterrupt } from "./interrupt.ts";
import { repository } from "./paths.ts";
import { say } from "./progress.ts";
import { setUp } from "./setup.ts";
import { failuresOf, lastLine, succeeded, sumOf, type Tally, tallyOf } from "./test-summary.ts";

/** CI gives an hour for everything; a machine at half its speed has taken 40 minutes. */
const deadlineMs = 55 * 60_000;
/** Of one test: real servers start, die and come back in it. */
const testTimeoutMs = 120_000;

async function main(filters: readonly string[]): Promise<Tally> {
  await setUp({ mariadb: true, newerPostgres: true, prometheus: true });
  const checks = [await check("typecheck"), await check("lint")];
  const tests = await bunTest(filters);
  // A type check that passes must not hide that no test ran.
  const noTest: Tally =
    tests.passed + tests.failed === 0 ? { passed: 0, failed: 1, skipped: 0 } : { passed: 0, failed: 0, skipped: 0 };
  const total = sumOf([...checks, tests, noTest]);
  if (noTest.failed > 0) process.stdout.write("No test ran.\n");
  return total;
}

/** One of the root's scripts, counted as one test. */
async function check(script: string): Promise<Tally> {
  const { scripts = {} } = (await Bun.file(`${repository}/package.json`).json()) as {
    readonly scripts?: Readonly<Record<string, string>>;
  };
  if (scripts[script] === undefined) return { passed: 0, failed: 0, skipped: 0 };
  say(`bun run ${script}`);
  const { exitCode } = await stream(["bun", "run", script]);
  if (exitCode !== 0) process.stdout.write(`${script} failed\n`);
  return exitCode === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
}

async function bunTest(filters: readonly string[]): Promise<Tally> {
  say(`bun test ${filters.join(" ")}`);
  const { output, exitCode } = await stream(["bun", "test", `--timeout=${testTimeoutMs}`, ...filters]);
  const failures = failuresOf(output);
  if (failures.length > 0) process.stdout.write(`\nWhat failed:\n\n${failures.join("\n\n")}\n\n`);
  return tallyOf(output, exitCode);
}

/** Runs a program, passing its output on as it comes; the deadline and our own end are its end too. */
async function stream(command: readonly string[]): Promise<{ readonly output: string; readonly exitCode: number | null }> {
  const lines: string[] = [];
  const child = spawnChild(command, {
    cwd: repository,
    // A pipe has no colours unless asked for.
    env: { ...process.env, ...(process.stderr.isTTY ? { FORCE_COLOR: "1" } : {}) },
    onLine: (line, name) => {
      lines.push(line);
      process[name].write(`${line}\n`);
    },
  });
  running = child;
  const late = setTimeout(() => {
    say(`${command.join(" ")} is ended: ${deadlineMs / 60_000} minutes are over`);
    void child.killTree();
  }, deadlineMs);
  const { code } = await child.exited;
  clearTimeout(late);
  return { output: lines.join("\n"), exitCode: code };
}

let running: Child | null = null;
let interrupted = false;

onInterrupt((signal) => {
  interrupted = true;
  void (async () => {
    await running?.stop(signal, 10_000);
    finish({ passed: 0, failed: 1, skipped: 0 });
    process.exit();
  })();
});

try {
  const total = await main(process.argv.slice(2));
  if (!interrupted) finish(total);
} catch (error) {
  if (!interrupted) {
    say(error instanceof Error ? error.message : String(error));
    finish({ passed: 0, failed: 1, skipped: 0 });
  }
}

function finish(total: Tally): void {
  process.stdout.write(`${lastLine(total)}\n`);
  process.exitCode = succeeded(total) ? 0 : 1;
}
