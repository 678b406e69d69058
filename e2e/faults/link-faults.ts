import type { Random } from "@cascade/workload/random";
import type { TcpProxy } from "../tcp-proxy.ts";

/** What a network does to a link. */
export interface LinkFault {
  readonly name: string;
  /** Resolves, once it is done or has begun, with what undoes it. */
  readonly strike: (link: TcpProxy, random: Random) => Promise<() => Promise<void>>;
}

export const LINK_FAULTS: readonly LinkFault[] = [
  {
    name: "cut",
    strike: async (link) => {
      link.cut();
      return () => link.heal();
    },
  },
  {
    name: "slow",
    strike: async (link, random) => {
      link.set({ latencyMs: random.between(20, 300), bytesPerSecond: random.between(20_000, 200_000) });
      return () => link.heal();
    },
  },
  {
    name: "half-open",
    strike: async (link) => {
      link.set({ swallow: ["up", "down"] });
      return () => link.heal();
    },
  },
  {
    name: "deaf client",
    strike: async (link) => {
      link.set({ swallow: ["down"] });
      return () => link.heal();
    },
  },
  {
    name: "deaf server",
    strike: async (link) => {
      link.set({ swallow: ["up"] });
      return () => link.heal();
    },
  },
  {
    name: "refused",
    strike: async (link) => {
      await link.refuse();
      return () => link.heal();
    },
  },
  {
    name: "reset in the middle of what is asked",
    strike: async (link, random) => {
      void link.resetAfter("up", random.between(1, 3_000));
      return () => link.heal();
    },
  },
  {
    name: "reset in the middle of an answer",
    strike: async (link, random) => {
      void link.resetAfter("down", random.between(1, 3_000));
      return () => link.heal();
    },
  },
];
