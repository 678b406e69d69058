import { spawnChild } from "./child.ts";

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** Runs a program to its end and gives its output; rejects with the last lines of it when it fails. */
export async function run(command: readonly string[], options: CommandOptions = {}): Promise<string> {
  const child = spawnChild(command, options);
  const exit = await child.exited;
  if (exit.code === 0) return child.log();
  const lastLines = child.log().split("\n").slice(-25).join("\n");
  throw new Error(`\`${command.join(" ")}\` ended with ${exit.signal ?? `status ${exit.code}`}:\n${lastLines}`);
}
