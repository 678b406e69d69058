import { BurnRate } from "./burn-rate.ts";
import type { OtherSlot, SlotLook } from "./postgres/slot-look.ts";

/** Of main-db's WAL that a slot nobody reads may keep before it is spoken of: such a one fills the disk. */
const MAX_OTHER_BYTES = 1024 ** 3;
/** An hour is time to act on; in the last minutes changes are in danger. */
const WARN_SECONDS = 3_600;
const DANGER_SECONDS = 300;
/** One look may fall between two sessions. */
const UNREAD_LOOKS = 3;
/** Below this the slot keeps up: main-db forgets WAL by steps. */
const MIN_BURN_BYTES_PER_SECOND = 1024;
const REMIND_MS = 600_000;
const LONG_TRANSACTION_SECONDS = 60;
const PENDING_SECONDS = 10;

/** What the rest of cdc knows of why the slot falls behind. */
export interface Pipeline {
  /** A walsender of this cdc is to read the slot. */
  readonly streams: boolean;
  /** Of the oldest change that Kafka has not acknowledged. */
  readonly pendingSeconds: number;
  /** What keeps this life from running, null when it runs. */
  readonly trouble: string | null;
}

interface Problem {
  /** Told again only after a while. */
  readonly key: string;
  readonly message: string;
  /** Changes are about to be lost. */
  readonly danger: boolean;
}

/** How long the slot will hold. Pure: told of looks, it says what is wrong. */
export class SlotHealth {
  readonly #slotName: string;
  #look: SlotLook | null = null;
  readonly #burn = new BurnRate();
  /** Looks in a row that found nobody reading. */
  #unread = 0;
  #problems: readonly Problem[] = [];
  readonly #toldAtMs = new Map<string, number>();

  constructor(slotName: string) {
    this.#slotName = slotName;
  }

  get look(): SlotLook | null {
    return this.#look;
  }

  /** Bytes of WAL per second by which the slot falls behind; 0 when it keeps up, null before it is known. */
  get burnBytesPerSecond(): number | null {
    const rate = this.#burn.bytesPerSecond;
    return rate === null ? null : Math.max(0, Math.round(rate));
  }

  /** Until main-db removes WAL that was not read; null without max_slot_wal_keep_size, or when the slot keeps up. */
  get secondsToExhaustion(): number | null {
    const safe = this.#look?.slot.safeBytes ?? null;
    const rate = this.#burn.bytesPerSecond;
    if (safe === null || rate === null || rate < MIN_BURN_BYTES_PER_SECOND) return null;
    return Math.max(0, Math.round(safe / rate));
  }

  /** null: the slot could not be seen. Returns what is to be said now. */
  take(look: SlotLook | null, pipeline: Pipeline, nowMs: number): readonly string[] {
    this.#look = look;
    if (look === null) return [];
    this.#burn.take(look.slot.retainedBytes, nowMs);
    this.#unread = pipeline.streams && look.slot.activePid === null ? this.#unread + 1 : 0;
    this.#problems = [...this.#own(look, pipeline), ...look.others.flatMap(problemOfOther)];
    return this.#problems.filter(({ key }) => this.#isDue(key, nowMs)).map(({ message }) => message);
  }

  /** Why changes are in danger. */
  reasons(): readonly string[] {
    return this.#problems.filter(({ danger }) => danger).map(({ message }) => message);
  }

  #isDue(key: string, nowMs: number): boolean {
    if (nowMs - (this.#toldAtMs.get(key) ?? Number.NEGATIVE_INFINITY) < REMIND_MS) return false;
    this.#toldAtMs.set(key, nowMs);
    return true;
  }

  #own(look: SlotLook, pipeline: Pipeline): readonly Problem[] {
    const named = `replication slot "${this.#slotName}"`;
    const cause = causeOf(look, pipeline);
    const { walStatus, retainedBytes } = look.slot;
    const seconds = this.secondsToExhaustion;
    const problems: Problem[] = [];
    const add = (key: string, danger: boolean, message: string) => problems.push({ key, danger, message });
    if (walStatus === "lost") add("lost", true, `${named} has lost WAL that was not read; the next start tells the cure`);
    else if (walStatus === "unreserved")
      add(
        "unreserved",
        true,
        `${named} is past max_slot_wal_keep_size: main-db removes WAL that was not read at its next checkpoint (${cause}); raise max_slot_wal_keep_size now (ALTER SYSTEM SET max_slot_wal_keep_size = ...; SELECT pg_reload_conf())`,
      );
    else if (seconds !== null && seconds < WARN_SECONDS) {
      const danger = seconds < DANGER_SECONDS;
      add(
        danger ? "exhausted soon" : "exhausting",
        danger,
        `${named} keeps ${mib(retainedBytes)} of main-db's WAL and reaches max_slot_wal_keep_size in about ${inWords(seconds)} (${cause}); raise max_slot_wal_keep_size, or mend what holds it back`,
      );
    }
    if (this.#unread >= UNREAD_LOOKS)
      add("unread", false, `nobody reads ${named}, though this cdc has its stream open: its connection to main-db may hang`);
    return problems;
  }
}

/** What holds the slot back. */
function causeOf({ behindBytes, slot, longest }: SlotLook, { pendingSeconds, trouble }: Pipeline): string {
  if (trouble !== null) return `held back by ${trouble}`;
  if (pendingSeconds > PENDING_SECONDS) return `Kafka has not acknowledged a change for ${inWords(pendingSeconds)}`;
  if (longest !== null && longest.seconds > LONG_TRANSACTION_SECONDS && behindBytes < slot.retainedBytes / 2)
    return `a transaction of main-db's process ${longest.pid} has been open for ${inWords(longest.seconds)}, and main-db keeps all WAL since its beginning`;
  return `${mib(behindBytes)} of it are not published yet`;
}

function problemOfOther({ name, retainedBytes }: OtherSlot): readonly Problem[] {
  if (retainedBytes < MAX_OTHER_BYTES) return [];
  const message = `nobody reads logical slot "${name}", and main-db keeps ${mib(retainedBytes)} of WAL for it; when it is not needed any more: SELECT pg_drop_replication_slot('${name}')`;
  return [{ key: `other ${name}`, danger: false, message }];
}

const mib = (bytes: number): string => `${Math.round(bytes / 1024 ** 2)} MiB`;

function inWords(seconds: number): string {
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
