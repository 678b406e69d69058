import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { isAlive, type ProcessRow, processTree, signalProcess } from "./process-table.ts";
import { until } from "./wait.ts";

export interface ChildExit {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child process that ends when we do, however we end. */
export interface Child extends AsyncDisposable {
  /** The program's own pid, not a wrapper's. */
  readonly pid: number;
  readonly exited: Promise<ChildExit>;
  /** The last lines of its output, standard output and error together. */
  log(): string;
  /** Signals the program alone. SIGTERM reaches its handler, SIGKILL hits it and no one else. */
  signal(signal: NodeJS.Signals): void;
  /** SIGSTOP and SIGCONT to the program and everything it started. */
  freeze(): void;
  thaw(): void;
  /** SIGKILL to the program and everything it started; resolves when all of them are gone. */
  killTree(): Promise<ChildExit>;
  /** Signals the program (SIGTERM) and waits until its whole tree is gone; past the grace the rest is killed. */
  stop(signal?: NodeJS.Signals, graceMs?: number): Promise<ChildExit>;
}

export interface ChildOptions {
  readonly cwd?: string;
  /** The whole environment; ours when left out. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Output goes straight to this file, so that a busy parent never holds the child up. */
  readonly logFile?: string;
  /** Called with each line of output, unless there is a log file. */
  readonly onLine?: (line: string, stream: "stdout" | "stderr") => void;
  readonly user?: { readonly uid: number; readonly gid: number };
  /** What an orphan gets before SIGKILL. */
  readonly orphanSignal?: "KILL" | "TERM" | "QUIT" | "INT";
  /** Removed once an orphan has ended, and its parent folder if that is empty then. */
  readonly removeWhenOrphaned?: string;
}

// Passed as text: the user that a server runs as may not be able to read this folder.
const guardScript = readFileSync(join(import.meta.dir, "guard.sh"), "utf8").replace(/^#.*\n/gm, "");
const keptLines = 200;

export function spawnChild(command: readonly string[], options: ChildOptions = {}): Child {
  const log = options.logFile === undefined ? null : openSync(options.logFile, "a");
  const guarded = [
    "sh",
    "-c",
    guardScript,
    "guard.sh",
    options.orphanSignal ?? "KILL",
    options.removeWhenOrphaned ?? "",
    ...command,
  ];
  const process_ = Bun.spawn(guarded, {
    cwd: options.cwd ?? process.cwd(),
    env: { ...(options.env ?? process.env) },
    stdio: ["ignore", log ?? "pipe", log ?? "pipe", "pipe"],
    // Its own session: Ctrl-C in the terminal reaches us alone, and we decide in which order the rest ends.
    detached: true,
    ...options.user,
  });
  if (log !== null) closeSync(log);
  const lifeline = process_.stdio[3] as unknown as number;
  const lines: string[] = [];
  const reading = log === null ? [collect(process_.stdout, "stdout"), collect(process_.stderr, "stderr")] : [];

  async function collect(stream: unknown, name: "stdout" | "stderr"): Promise<void> {
    for await (const line of linesOf(stream as ReadableStream<Uint8Array>)) {
      lines.push(line);
      if (lines.length > keptLines) lines.shift();
      options.onLine?.(line, name);
    }
  }

  const exited = process_.exited.then((): ChildExit => {
    release(lifeline);
    const signal = process_.signalCode as NodeJS.Signals | null;
    return { code: signal === null ? process_.exitCode : null, signal };
  });

  return childOf(process_.pid, exited, reading, () =>
    options.logFile === undefined ? lines.join("\n") : tailOf(options.logFile),
  );
}

function childOf(pid: number, exited: Promise<ChildExit>, reading: readonly Promise<void>[], log: () => string): Child {
  let running = true;
  const drained = exited.then(async (exit) => {
    running = false;
    // A grandchild that keeps the pipe open must not keep us waiting for the last lines.
    await Promise.race([Promise.all(reading), Bun.sleep(2_000)]);
    return exit;
  });
  const signal = (name: NodeJS.Signals): void => {
    if (running) signalProcess(pid, name);
  };
  const signalTree = (name: NodeJS.Signals): readonly ProcessRow[] => {
    const rows = running ? processTree(pid) : [];
    for (const row of rows) signalProcess(row.pid, name);
    return rows;
  };
  const killTree = async (): Promise<ChildExit> => {
    // Stopped first, so that nothing is born between the look and the kill.
    signal("SIGSTOP");
    await allGone(signalTree("SIGKILL"), 30_000);
    return drained;
  };
  const stop = async (name: NodeJS.Signals = "SIGTERM", graceMs = 15_000): Promise<ChildExit> => {
    const rows = running ? processTree(pid) : [];
    signal(name);
    signalTree("SIGCONT");
    if (!(await allGone(rows, graceMs))) {
      await killTree();
      for (const row of rows) if (isAlive(row)) signalProcess(row.pid, "SIGKILL");
    }
    return drained;
  };
  return {
    pid,
    exited: drained,
    log,
    signal,
    freeze: () => void signalTree("SIGSTOP"),
    thaw: () => void signalTree("SIGCONT"),
    killTree,
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

function allGone(rows: readonly ProcessRow[], withinMs: number): Promise<boolean> {
  return until(() => !rows.some(isAlive), withinMs, 10);
}

function release(lifeline: number): void {
  try {
    writeSync(lifeline, "done\n");
  } catch {
    // The guard is gone already: nothing to release.
  }
  closeSync(lifeline);
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
  if (rest !== "") yield rest;
}

/** The last lines of a log file that may not be there. */
function tailOf(file: string): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-keptLines).join("\n");
  } catch {
    return "";
  }
}
