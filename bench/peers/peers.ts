import { debezium } from "./debezium.ts";
import { native } from "./native.ts";
import type { Peer, PeerName } from "./peer.ts";

export const peerNamed: Readonly<Record<PeerName, Peer>> = {
  debezium: debezium(true),
  "debezium-stock": debezium(false),
  native,
};
