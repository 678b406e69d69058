import { type Child, type ChildOptions, spawnChild } from "./child.ts";
import { PortTakenError } from "./ports.ts";

/** What the real servers have in common: a process that answers, can be killed, frozen and started again on its data. */
export interface Server extends AsyncDisposable {
  /** Resolves when it answers. Does nothing while it runs. */
  start(): Promise<void>;
  /** Resolves when the server and all its processes are gone. SIGKILL hits all of them, another signal the main one. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  freeze(): void;
  thaw(): void;
  /** Of its main process; null while it does not run. */
  pid(): number | null;
}

export interface ServerRecipe {
  readonly name: string;
  readonly command: readonly string[];
  readonly child: ChildOptions & { readonly logFile: string };
  /** Rejects or says false while the server doesn't answer yet. */
  readonly answers: () => Promise<boolean>;
  /** The clean way to end it. */
  readonly stopSignal: NodeJS.Signals;
}

const startDeadlineMs = 120_000;
const portTaken = /address (is )?already in use|can't start server: bind on tcp\/ip port/i;

export function serverOf(recipe: ServerRecipe): Server {
  let child: Child | null = null;

  const kill = async (signal: NodeJS.Signals = "SIGKILL"): Promise<void> => {
    const ending = child;
    child = null;
    if (ending === null) return;
    if (signal === "SIGKILL") await ending.killTree();
    else await ending.stop(signal, 30_000);
  };

  const start = async (): Promise<void> => {
    if (child !== null) return;
    const starting = spawnChild(recipe.command, recipe.child);
    child = starting;
    void starting.exited.then(() => {
      if (child === starting) child = null;
    });
    try {
      await untilItAnswers(recipe, starting);
    } catch (error) {
      await starting.killTree();
      throw error;
    }
  };

  return {
    start,
    kill,
    freeze: () => child?.freeze(),
    thaw: () => child?.thaw(),
    pid: () => child?.pid ?? null,
    [Symbol.asyncDispose]: () => kill(recipe.stopSignal),
  };
}

async function untilItAnswers(recipe: ServerRecipe, child: Child): Promise<void> {
  const deadline = performance.now() + startDeadlineMs;
  while (performance.now() < deadline) {
    const answered = recipe.answers().catch(() => false);
    const first = await Promise.race([answered, child.exited]);
    if (first === true) return;
    if (first !== false) throw startError(recipe, child, `ended at once (${first.signal ?? `status ${first.code}`})`);
    await Promise.race([Bun.sleep(40), child.exited]);
  }
  throw startError(recipe, child, `did not answer within ${startDeadlineMs / 1000} s`);
}

function startError(recipe: ServerRecipe, child: Child, what: string): Error {
  const lastLines = child.log().split("\n").slice(-20).join("\n");
  const message = `${recipe.name} ${what}. The end of ${recipe.child.logFile}:\n${lastLines}`;
  return portTaken.test(lastLines) ? new PortTakenError(message) : new Error(message);
}
