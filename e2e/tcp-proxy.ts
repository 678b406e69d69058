import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { freePort, PortTakenError } from "@cascade/local/ports.ts";

/** `up`: what the client says; `down`: what the server says. */
export type Direction = "up" | "down";

export interface LinkState {
  /** Every byte arrives this much later. */
  readonly latencyMs: number;
  /** In each direction; Infinity for no limit. */
  readonly bytesPerSecond: number;
  /** Directions in which every byte vanishes, and every end of a connection with it: both of them make it half-open for both sides. */
  readonly swallow: readonly Direction[];
}

/** A link between a client and a server that does to their bytes what a bad network does. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** host:port. */
  readonly address: string;
  /** Changes the link, for connections that are there and for new ones. */
  set(state: Partial<LinkState>): void;
  /** Back to a link that passes everything. Connections that have lost bytes are reset: no network gives back the middle of a stream. */
  heal(): Promise<void>;
  /** Resets every connection, for both sides. */
  cut(): void;
  /** New connections are refused (and those that are there reset) until it heals. */
  refuse(): Promise<void>;
  /** Passes at most `bytes` of what is said in that direction from now on, over all connections, then resets the one in the middle of it. */
  resetAfter(direction: Direction, bytes: number): Promise<void>;
  /**
   * Waits for a client to say `needle` and for the server to answer, swallows the answer and resets that connection: what was asked for
   * is done, and the client cannot know.
   */
  loseAnswerTo(needle: string): Promise<void>;
  connections(): number;
}

const WHOLE: LinkState = { latencyMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY, swallow: [] };
/** What waits on a slow link before its sender is paused. */
const MAX_QUEUED_BYTES = 256 * 1024;

export async function openTcpProxy(targetPort: number, wishedPort?: number): Promise<TcpProxy> {
  const link = new Link(targetPort);
  const port = wishedPort ?? (await freePort());
  await link.listen(port);
  return {
    port,
    address: `127.0.0.1:${port}`,
    set: (state) => link.set(state),
    heal: () => link.heal(port),
    cut: () => link.cut(),
    refuse: () => link.close(),
    resetAfter: (direction, bytes) => link.resetAfter(direction, bytes),
    loseAnswerTo: (needle) => link.loseAnswerTo(needle),
    connections: () => link.pairs.size,
    [Symbol.asyncDispose]: () => link.close(),
  };
}

interface Budget {
  readonly direction: Direction;
  bytes: number;
  readonly spent: () => void;
}

class Link {
  readonly targetPort: number;
  readonly pairs = new Set<Pair>();
  state: LinkState = WHOLE;
  budget: Budget | null = null;
  wanted: { readonly needle: Buffer; readonly found: () => void } | null = null;
  #server: Server | null = null;

  constructor(targetPort: number) {
    this.targetPort = targetPort;
  }

  listen(port: number): Promise<void> {
    // Half-open as it is on the wire: an end of one side is passed on, not answered.
    const server = createServer({ allowHalfOpen: true }, (client) => this.pairs.add(new Pair(this, client)));
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once("error", (error) => reject(new PortTakenError(error.message)));
      server.listen({ port, host: "127.0.0.1", exclusive: true }, () => resolve());
    });
  }

  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    const closed = new Promise<void>((resolve) => (server === null ? resolve() : server.close(() => resolve())));
    this.cut();
    await closed;
  }

  set(state: Partial<LinkState>): void {
    this.state = { ...this.state, ...state };
    for (const pair of this.pairs) pair.flow();
  }

  async heal(port: number): Promise<void> {
    this.budget = null;
    this.wanted = null;
    this.set(WHOLE);
    for (const pair of this.pairs) if (pair.hasLost) pair.reset();
    if (this.#server === null) await this.listen(port);
  }

  cut(): void {
    for (const pair of this.pairs) pair.reset();
  }

  resetAfter(direction: Direction, bytes: number): Promise<void> {
    return new Promise((resolve) => {
      this.budget = { direction, bytes, spent: resolve };
    });
  }

  loseAnswerTo(needle: string): Promise<void> {
    return new Promise((resolve) => {
      this.wanted = { needle: Buffer.from(needle), found: resolve };
    });
  }
}

interface Chunk {
  readonly bytes: Buffer;
  readonly dueMs: number;
}

/** One connection: a client's and the one made to the server for it. */
class Pair {
  readonly #link: Link;
  readonly #lanes: readonly Lane[];
  /** Some of its bytes were swallowed. */
  hasLost = false;
  /** Called with the server's next answer, which is swallowed. */
  onAnswer: (() => void) | null = null;

  constructor(link: Link, client: Socket) {
    this.#link = link;
    const server = dial({ port: link.targetPort, host: "127.0.0.1", allowHalfOpen: true });
    this.#lanes = [new Lane(link, this, "up", client, server), new Lane(link, this, "down", server, client)];
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on("error", () => this.#broken());
      socket.on("close", () => this.#broken());
    }
  }

  flow(): void {
    for (const lane of this.#lanes) lane.flow();
  }

  reset(): void {
    this.#link.pairs.delete(this);
    for (const lane of this.#lanes) lane.reset();
  }

  /** One side is gone: so is the other, unless the link hides it. */
  #broken(): void {
    if (this.#link.state.swallow.length > 0) this.hasLost = true;
    else if (this.#link.pairs.has(this)) this.reset();
  }
}

/** One direction of a connection. */
class Lane {
  readonly #link: Link;
  readonly #pair: Pair;
  readonly #direction: Direction;
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #queue: Chunk[] = [];
  #queued = 0;
  #ended = false;
  #timer: Timer | null = null;
  /** When the link is free again, with a limit on its bytes. */
  #freeAtMs = 0;

  constructor(link: Link, pair: Pair, direction: Direction, from: Socket, to: Socket) {
    this.#link = link;
    this.#pair = pair;
    this.#direction = direction;
    this.#from = from;
    this.#to = to;
    from.on("data", (bytes: Buffer) => this.#take(bytes));
    from.on("end", () => {
      this.#ended = true;
      this.flow();
    });
    to.on("drain", () => this.flow());
  }

  reset(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#queue.length = 0;
    this.#from.resetAndDestroy();
  }

  #take(bytes: Buffer): void {
    const { wanted, state } = this.#link;
    if (this.#direction === "up" && wanted !== null && bytes.includes(wanted.needle)) {
      this.#link.wanted = null;
      this.#pair.onAnswer = wanted.found;
    } else if (this.#direction === "down" && this.#pair.onAnswer !== null) {
      const answered = this.#pair.onAnswer;
      this.#pair.onAnswer = null;
      this.#pair.reset();
      answered();
      return;
    }
    this.#queue.push({ bytes, dueMs: performance.now() + state.latencyMs });
    this.#queued += bytes.length;
    this.flow();
  }

  /** Passes on what is due. */
  flow(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const { swallow, bytesPerSecond } = this.#link.state;
    if (swallow.includes(this.#direction)) {
      this.#swallow();
      return;
    }
    for (let chunk = this.#queue[0]; chunk !== undefined; chunk = this.#queue[0]) {
      const waitMs = Math.max(chunk.dueMs, this.#freeAtMs) - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.flow(), waitMs);
        break;
      }
      if (this.#to.writableNeedDrain) break;
      this.#queue.shift();
      const piece = chunk.bytes.subarray(0, Math.max(1, Math.min(chunk.bytes.length, Math.ceil(bytesPerSecond / 20))));
      if (piece.length < chunk.bytes.length) this.#queue.unshift({ ...chunk, bytes: chunk.bytes.subarray(piece.length) });
      this.#queued -= piece.length;
      if (Number.isFinite(bytesPerSecond)) this.#freeAtMs = performance.now() + (piece.length / bytesPerSecond) * 1000;
      if (!this.#pass(piece)) return;
    }
    if (this.#queued > MAX_QUEUED_BYTES) this.#from.pause();
    else if (this.#from.isPaused()) this.#from.resume();
    if (this.#ended && this.#queue.length === 0 && !this.#to.writableEnded) this.#to.end();
  }

  #swallow(): void {
    if (this.#queue.length > 0) this.#pair.hasLost = true;
    this.#queue.length = 0;
    this.#queued = 0;
    if (this.#from.isPaused()) this.#from.resume();
  }

  /** False when the connection was reset in the middle of it. */
  #pass(piece: Buffer): boolean {
    const { budget } = this.#link;
    if (budget === null || budget.direction !== this.#direction || piece.length <= budget.bytes) {
      if (budget?.direction === this.#direction) budget.bytes -= piece.length;
      this.#to.write(piece);
      return true;
    }
    this.#link.budget = null;
    // Those bytes are to arrive before the reset: a reset throws away what the sender has not sent yet.
    this.#to.write(piece.subarray(0, budget.bytes), () => {
      this.#pair.reset();
      budget.spent();
    });
    return false;
  }
}
