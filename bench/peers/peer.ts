import type { Figure } from "../figure.ts";
import type { Trial } from "../lab.ts";
import type { Part } from "../options.ts";
import type { Workload } from "../workloads.ts";

/** What a user would take instead. */
export const PEERS = ["debezium", "debezium-stock", "native"] as const;
export type PeerName = (typeof PEERS)[number];

export interface Peer {
  /** For people. */
  readonly what: string;
  /** The parts that it has, each on a trial of its own, with the workload that Cascade had. */
  readonly runs: Partial<Record<Part, (trial: Trial, workload: Workload, changes: number) => Promise<readonly Figure[]>>>;
  /** Its settings, for whoever reads the figures. */
  readonly settings: readonly string[];
}
