import { createHash } from "node:crypto";
import { Ownership } from "@cascade/shard-router/src/ownership.ts";
import type { TableSchema } from "@cascade/shared/table-schema";
import { COUNT, ID, type Row, type TableForm } from "./tables.ts";

/** Every table by its key; every table by a column that changes with every update; or each as its name says, which may change. */
export const DIVIDED_BY = ["key", "value", "name"] as const;
export type DividedBy = (typeof DIVIDED_BY)[number];

/** How main-db's rows are divided among a history's replicas. */
export interface Division {
  readonly shards: number;
  readonly by: DividedBy;
  /** The first of them gives half of its part to one more replica on the way. */
  readonly splits: boolean;
}

/** ROUTER_SHARD_KEYS. */
const RULES: Readonly<Record<DividedBy, string>> = { key: "", value: "public.*=n", name: "public.t0*=n,public.t1*=*" };

/** Of tables that can be divided so whatever they become. */
export function formOf(division: Division | null): TableForm {
  if (division === null) return { mayLackKey: true, isFull: false, keeps: new Set() };
  const { by } = division;
  // Without REPLICA IDENTITY FULL nobody knows whose a row was before.
  return { mayLackKey: by === "value", isFull: by !== "key", keeps: new Set(by === "key" ? [] : [COUNT]) };
}

/** One replica's. */
export class Part {
  readonly #by: DividedBy;
  readonly #at: number;
  readonly #of: number;
  /** As its routers are told it. */
  readonly ownership: Ownership;

  constructor(by: DividedBy, at: number, of: number) {
    this.#by = by;
    this.#at = at;
    this.#of = of;
    this.ownership = Ownership.parse(`${at}/${of} ${RULES[by]}`.trim());
  }

  /** As docs/sharding.md says it, and not by the routers' own code. */
  owns({ table }: TableSchema, row: Row): boolean {
    const by = this.#by;
    if (by === "name" && table.startsWith("t1")) return true;
    const isByValue = by === "value" || (by === "name" && table.startsWith("t0"));
    const text = String(row.get(isByValue ? COUNT : ID) ?? "");
    const hash = Number.parseInt(createHash("md5").update(text).digest("hex").slice(0, 8), 16);
    return hash % this.#of === this.#at;
  }
}
