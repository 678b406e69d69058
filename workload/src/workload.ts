import type { Client } from "pg";
import { randomOf } from "./random.ts";
import { openShop, type Shop } from "./shop.ts";
import { nextTransaction } from "./shop-transactions.ts";

export interface WorkloadOptions {
  /** The same seed on the same rows makes the same changes. */
  readonly seed: number;
  /** Row changes, over all clients; 500 when left out. */
  readonly changesPerSecond?: number;
  /** Ends the workload after the transactions in hand. */
  readonly signal: AbortSignal;
  /** Called after each transaction. */
  readonly onProgress?: (progress: WorkloadProgress) => void;
}

export interface WorkloadProgress {
  /** Committed row changes. */
  readonly changes: number;
  readonly transactions: number;
}

/**
 * Writes a shop's daily business into the demo schema until the signal comes, and resolves with what it committed. Rejects
 * when a client does: run again it goes on with the rows that are there. Each client writes rows of its own.
 */
export async function runWorkload(clients: Client | readonly Client[], options: WorkloadOptions): Promise<WorkloadProgress> {
  const all = Array.isArray(clients) ? (clients as readonly Client[]) : [clients as Client];
  const total = { changes: 0, transactions: 0 };
  const count = (changes: number): void => {
    total.changes += changes;
    total.transactions += 1;
    options.onProgress?.({ ...total });
  };
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const perClient = (options.changesPerSecond ?? 500) / all.length;
  await Promise.all(
    all.map(async (client, index) => {
      try {
        const random = randomOf(options.seed + index * 0x10001);
        const shop = await openShop(client, { random, index, of: all.length });
        await serve(shop, perClient, signal, count);
      } catch (error) {
        failed.abort();
        throw error;
      }
    }),
  );
  return total;
}

/**
 * Paced by the clock: what one transaction or one sleep took too long, the next ones make up for. A pause longer than
 * this (a main-db that was away) is not made up for: the rush would be another workload than the one asked for.
 */
const longestDebtSeconds = 1;

async function serve(shop: Shop, rate: number, signal: AbortSignal, count: (changes: number) => void): Promise<void> {
  let started = performance.now();
  let done = 0;
  while (!signal.aborted) {
    const due = ((performance.now() - started) / 1000) * rate;
    const debt = due - done;
    if (debt <= 0) {
      await Bun.sleep(Math.min(100, Math.max(1, (-debt / rate) * 1000)));
      continue;
    }
    if (debt > rate * longestDebtSeconds) started += (debt / rate - longestDebtSeconds) * 1000;
    const changes = await nextTransaction(shop)(shop);
    done += changes;
    count(changes);
  }
}
