import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { onInterrupt } from "@cascade/local/interrupt.ts";
import { makeRunFolder } from "@cascade/local/run-folder.ts";
import { setUp } from "@cascade/local/setup.ts";
import { chartsOf } from "./charts.ts";
import type { Figure } from "./figure.ts";
import { closeLab, openLab } from "./lab.ts";
import { type BenchOptions, parseBenchOptions, UsageError, usage } from "./options.ts";
import { runPart } from "./parts.ts";
import { peerNamed } from "./peers/peers.ts";
import { table } from "./report.ts";
import { scaleTable } from "./scale-table.ts";

const exitUsage = 78;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(args: readonly string[]): Promise<void> {
  const options = parseBenchOptions(args);
  if (options === null) return say(usage);
  if (options.from !== null) return tell(JSON.parse(readFileSync(options.from, "utf8")).figures as Figure[], options);
  await setUp({ mariadb: true });
  const folder = makeRunFolder("bench");
  try {
    await measure(folder, options);
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function measure(folder: string, options: BenchOptions): Promise<void> {
  say(`On ${cpus().length} cores (${cpus()[0]?.model ?? "unknown"}), Bun ${Bun.version}`);
  const lab = await openLab(folder);
  const figures: Figure[] = [];
  try {
    for (let attempt = 1; attempt <= options.repeat; attempt++) {
      for (const part of options.parts) {
        say(`${part}${options.repeat > 1 ? `, run ${attempt} of ${options.repeat}` : ""} ...`);
        figures.push(...(await runPart(lab, part, attempt, options, (what) => say(`  ${what}`))));
      }
    }
  } finally {
    await closeLab(lab);
  }
  tell(figures, options);
  for (const peer of options.peers) for (const line of peerNamed[peer].settings) say(line);
  if (options.parts.some((part) => part !== "capture" && part !== "snapshot"))
    say("Every replica ended equal to main-db, row by row.");
  if (options.json !== null)
    writeFileSync(options.json, `${JSON.stringify({ bun: Bun.version, cores: cpus().length, figures }, null, 2)}\n`);
}

function tell(figures: readonly Figure[], { charts }: BenchOptions): void {
  const plain = figures.filter(({ scaled }) => scaled === undefined);
  if (plain.length > 0) say(table(plain));
  if (plain.length < figures.length) say(scaleTable(figures.filter(({ scaled }) => scaled !== undefined)));
  if (charts === null) return;
  mkdirSync(charts, { recursive: true });
  for (const [name, svg] of chartsOf(figures)) writeFileSync(join(charts, name), `${svg}\n`);
}

// The servers end with this process, however it ends.
onInterrupt(() => process.exit(130));

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(
    `${error instanceof UsageError ? `${error.message}\n\n${usage}` : String(error instanceof Error ? `${error.message}\n${error.stack}` : error)}\n`,
  );
  process.exitCode = error instanceof UsageError ? exitUsage : 1;
}
