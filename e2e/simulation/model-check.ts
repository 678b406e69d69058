import { decodeSlotRecord, SLOT_KEY } from "@cascade/cdc/src/slot-record.ts";
import type { HeldKey } from "@cascade/shard-router/src/held-keys.ts";
import type { RememberedTable } from "@cascade/shard-router/src/replica.ts";
import type { Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { signalsTopic, topicOf } from "@cascade/shared/topic";
import type { SimulatedKafka } from "./kafka.ts";
import type { MainDb } from "./main-db.ts";
import type { Network } from "./network.ts";
import type { Witness } from "./process.ts";
import type { SimulatedReplica } from "./replica.ts";
import { PREFIX } from "./slot-source.ts";
import { heldId, ID, isHidden, type Row, tableText } from "./tables.ts";

export interface CheckedWorld {
  readonly network: Network;
  readonly mainDb: MainDb;
  readonly kafka: SimulatedKafka;
  readonly witness: Witness;
}

/** Compares replicas with main-db. */
export class ModelCheck {
  readonly #world: CheckedWorld;

  constructor(world: CheckedWorld) {
    this.#world = world;
  }

  /** What cdc has written down of its slot. */
  get hasSlotRecord(): boolean {
    return this.#slotRecords().length > 0;
  }

  #slotRecords(): readonly string[] {
    const messages = this.#world.kafka.read(signalsTopic(PREFIX), 0);
    return messages.flatMap(({ key, value }) => (key === SLOT_KEY && value !== null ? [value] : []));
  }

  /** What is not as it should be in the end; null when all is. */
  async difference(replicas: readonly SimulatedReplica[]): Promise<string | null> {
    const { network, mainDb, witness } = this.#world;
    if (!network.counts.has("slot-lost") && this.#slotRecords().some((value) => decodeSlotRecord(value).repair !== null))
      witness.violated("a slot that nobody has lost was made anew");
    const confirmed = mainDb.slot?.confirmed ?? 0n;
    const last = mainDb.lastChangeLsn;
    if (confirmed < last) return `the slot is confirmed up to ${confirmed}, and the WAL has changes up to ${last}`;
    for (const replica of replicas) {
      if (replica.part !== null) {
        const { part, before } = await replica.parts();
        if (part !== replica.part.ownership.text || before !== null) return `${replica.name} has the part ${part} (${before})`;
      }
      const held = await replica.held();
      if (held.length > 0) return `${replica.name} holds ${held.map(({ oid, text }) => `${oid} ${text}`)} back`;
      const remembered = new Map((await replica.remembered()).map((table) => [table.oid, table]));
      const dropped = [...remembered.values()].find(({ oid }) => !mainDb.tables.has(oid));
      if (dropped !== undefined) return `${replica.name} has ${dropped.schema.table} (${dropped.oid}) still, which is dropped`;
      for (const { schema, rows } of mainDb.tables.values()) {
        if (isHidden(schema)) continue;
        const table = remembered.get(schema.oid);
        if (table === undefined) return `${replica.name} has no table ${schema.table}`;
        if (table.schema.id !== schema.id) return `${schema.table} of ${replica.name} is at another schema`;
        const attnums = attnumsOf(schema);
        const [expected, found] = [tableText(owned(replica, schema, rows.all), attnums), replica.text(table, attnums)];
        if (expected !== found) return `${schema.table} of ${replica.name} has\n${found}\ninstead of\n${expected}`;
      }
    }
    return null;
  }

  /**
   * Where nothing is copied, a replica's table is at every moment what main-db's was at the position that the replica says it is at, but for
   * keys that are held back: each of their rows is what it was before the first change that is held.
   */
  async progress(replica: SimulatedReplica, topic: string): Promise<void> {
    const progress = await replica.progress(topic);
    if (progress === null) return;
    // One that was dropped, and the one that has its name now.
    const tables = (await replica.remembered()).filter(({ schema }) => topicOf(PREFIX, schema) === topic);
    const held = await replica.held();
    for (const table of tables) {
      const ofTable = held.filter(({ oid }) => oid === table.oid);
      this.#table(replica, table, progress, ofTable);
    }
  }

  #table(replica: SimulatedReplica, table: RememberedTable, progress: Position, held: readonly HeldKey[]): void {
    const { mainDb, witness } = this.#world;
    if (mainDb.wasRenamed(table.oid)) return; // its rows come by several topics, each with a progress of its own
    if (!mainDb.tables.has(table.oid)) return; // nobody needs the rows of a table that is to be dropped
    const rows = [...without(held, mainDb.rowsAt(table.oid, progress)), ...held.flatMap((key) => this.#rowsBefore(table, key))];
    const schema = mainDb.schemaAt(table.oid, progress);
    const attnums = attnumsOf(schema);
    for (const attnum of attnums) if (!table.schema.columns.some((column) => column.attnum === attnum)) attnums.delete(attnum);
    const [expected, found] = [tableText(owned(replica, schema, rows), attnums), replica.text(table, attnums)];
    if (expected === found) return;
    const at = `${progress.commitLsn}/${progress.ordinal}`;
    const but = held.length === 0 ? "" : ` (holding back ${held.map(({ text }) => text)})`;
    witness.violated(`${table.schema.table} of ${replica.name} at ${at}${but} has\n${found}\ninstead of\n${expected}`);
  }

  #rowsBefore({ oid }: RememberedTable, key: HeldKey): readonly Row[] {
    const { commitLsn, ordinal } = key.first;
    const rows = this.#world.mainDb.rowsAt(oid, { commitLsn, ordinal: ordinal - 1 });
    return rows.filter((row) => row.get(ID) === heldId(key));
  }
}

const attnumsOf = ({ columns }: TableSchema): Set<number> => new Set(columns.map(({ attnum }) => attnum));

const owned = ({ part }: SimulatedReplica, schema: TableSchema, rows: readonly Row[]): readonly Row[] =>
  part === null ? rows : rows.filter((row) => part.owns(schema, row));

function without(held: readonly HeldKey[], rows: readonly Row[]): readonly Row[] {
  const ids = new Set(held.map(heldId));
  return rows.filter((row) => !ids.has(Number(row.get(ID))));
}
