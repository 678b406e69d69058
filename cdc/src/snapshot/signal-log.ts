/** A message of `<prefix>.signals`. */
export interface SignalMessage {
  readonly key: string;
  /** null: deleted. */
  readonly value: string | null;
}

/** Requests for snapshots, and how far they are. */
export interface SignalLog extends AsyncDisposable {
  /** The newest message of each key up to where the topic ended when it was opened. */
  readonly messages: ReadonlyMap<string, string>;
  /** Resolves to what has come since the last call, once something has; to nothing when `signal` aborts. */
  next(signal: AbortSignal): Promise<readonly SignalMessage[]>;
  /** Resolves when all of them are durable, or none is. */
  write(messages: readonly SignalMessage[]): Promise<void>;
}
