import { drainMicrotasks } from "bun:jsc";
import { Random } from "./random.ts";

/** A process that is simulated: what it waits for comes to nothing once it is dead, and late while it is frozen. */
export interface Host {
  readonly name: string;
  alive: boolean;
  /** 0: it runs. */
  frozenUntilMs: number;
}

interface Task {
  readonly atMs: number;
  readonly order: number;
  /** Whose code is run; null: the world's. */
  readonly host: Host | null;
  readonly run: () => void;
  cancelled: boolean;
}

/** What setTimeout returns in a simulation: as much of a Timer as anybody uses. */
export interface VirtualTimer {
  cancel(): void;
  ref(): VirtualTimer;
  unref(): VirtualTimer;
}

/** Where a simulation's time begins. */
const EPOCH_MS = Date.UTC(2030, 0, 1);

/**
 * Virtual time: one task after the other in the order of their times, each with all the promises that it resolves. Nothing else runs
 * meanwhile, so one seed is one history.
 */
export class Scheduler {
  readonly random: Random;
  #nowMs = 0;
  #tasks: Task[] = [];
  #order = 0;
  #current: Host | null = null;
  #digest = 0;
  #steps = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  get current(): Host | null {
    return this.#current;
  }

  /** Of all that was run, and when: the same for the same history. */
  get digest(): string {
    return `${this.#steps}-${(this.#digest >>> 0).toString(16)}`;
  }

  after(delayMs: number, host: Host | null, run: () => void): Task {
    const task: Task = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      order: this.#order++,
      host,
      run,
      cancelled: false,
    };
    push(this.#tasks, task);
    return task;
  }

  /** Runs until `isOver`, asked after every task, or there is nothing more to run, or it is `untilMs`. */
  run(untilMs: number, isOver: () => boolean): void {
    const restore = this.#patchGlobals();
    try {
      for (let task = pop(this.#tasks); task !== undefined; task = pop(this.#tasks)) {
        if (task.atMs > untilMs) {
          push(this.#tasks, task);
          this.#nowMs = untilMs;
          return;
        }
        this.#step(task);
        if (isOver()) return;
      }
    } finally {
      restore();
    }
  }

  #step(task: Task): void {
    const { host } = task;
    this.#nowMs = Math.max(this.#nowMs, task.atMs);
    if (task.cancelled || host?.alive === false) return;
    if (host !== null && host.frozenUntilMs > this.#nowMs) {
      // In the order they came, once it goes on.
      push(this.#tasks, { ...task, atMs: host.frozenUntilMs, cancelled: false });
      return;
    }
    this.#steps++;
    this.#digest = (Math.imul(this.#digest, 31) + Math.floor(this.#nowMs * 1000) + task.order) | 0;
    this.#current = host;
    task.run();
    drainMicrotasks();
    this.#current = null;
  }

  #timer(run: () => void, delayMs: number, repeats: boolean): VirtualTimer {
    const host = this.#current;
    const state = { cancelled: false };
    const tick = () => {
      if (state.cancelled) return;
      if (repeats) arm();
      run();
    };
    const arm = () => void this.after(Math.max(1, delayMs), host, tick);
    arm();
    const timer: VirtualTimer = {
      cancel: () => {
        state.cancelled = true;
      },
      ref: () => timer,
      unref: () => timer,
    };
    return timer;
  }

  /** Time is virtual for whatever runs in here. Returns what makes it real again. */
  #patchGlobals(): () => void {
    const real = {
      setTimeout: globalThis.setTimeout,
      clearTimeout: globalThis.clearTimeout,
      setInterval: globalThis.setInterval,
      clearInterval: globalThis.clearInterval,
    };
    const { now } = Date;
    const performanceNow = performance.now;
    const { random } = Math;
    const { sleep } = Bun;
    const clear = (timer: VirtualTimer | undefined) => timer?.cancel();
    Object.assign(globalThis, {
      setTimeout: (run: (...given: unknown[]) => void, ms = 0, ...given: unknown[]) =>
        this.#timer(() => run(...given), ms, false),
      setInterval: (run: (...given: unknown[]) => void, ms = 0, ...given: unknown[]) =>
        this.#timer(() => run(...given), ms, true),
      clearTimeout: clear,
      clearInterval: clear,
    });
    Date.now = () => EPOCH_MS + Math.floor(this.#nowMs);
    performance.now = () => this.#nowMs;
    Math.random = () => this.random.next();
    const host = () => this.#current;
    Bun.sleep = (ms: number | Date) => new Promise((resolve) => void this.after(Number(ms), host(), () => resolve()));
    return () => {
      Object.assign(globalThis, real);
      Date.now = now;
      performance.now = performanceNow;
      Math.random = random;
      Bun.sleep = sleep;
    };
  }
}

const isBefore = (a: Task, b: Task): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

/** A binary heap. */
function push(heap: Task[], task: Task): void {
  let at = heap.length;
  heap.push(task);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    const above = heap[parent] as Task;
    if (!isBefore(task, above)) break;
    heap[at] = above;
    at = parent;
  }
  heap[at] = task;
}

function pop(heap: Task[]): Task | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (first === undefined || last === undefined || heap.length === 0) return first;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1] as Task, heap[child] as Task)) child++;
    const below = heap[child] as Task;
    if (!isBefore(below, last)) break;
    heap[at] = below;
    at = child;
  }
  heap[at] = last;
  return first;
}
