/**
 * cascade_shard: which part of main-db the replica holds, from its first router on, as row 1; as row 2 what it held before, while rows of
 * that may be left (part-store.ts). The same statements on every engine, but for how they are written.
 */

export interface ShardRowOptions {
  /** As it is written in SQL. */
  readonly table: string;
  readonly progress: string;
  readonly textType: string;
  readonly tableOptions?: string;
  /** Of the one row there is, unless it is there: before VALUES, and after. */
  readonly insert: readonly [before: string, after: string];
  /** How the statement's nth parameter is written, from 1 on. */
  parameter(at: number): string;
}

/** Runs one statement, with the rows that it gives. */
export type Rows = (text: string, values: readonly string[]) => Promise<readonly Readonly<Record<string, unknown>>[]>;

export class ShardRow {
  readonly options: ShardRowOptions;

  constructor(options: ShardRowOptions) {
    this.options = options;
  }

  get createText(): string {
    const { table, textType, tableOptions = "" } = this.options;
    return `CREATE TABLE IF NOT EXISTS ${table} (one INTEGER NOT NULL PRIMARY KEY, shard ${textType} NOT NULL)${tableOptions}`;
  }

  /**
   * What is remembered, which is `wanted` where nothing was and the replica is new; one that was filled before there
   * were shards holds everything. `instead`: the rules are others from now on, unless another router has changed them meanwhile.
   */
  async claim(rows: Rows, wanted: string, instead?: string): Promise<string> {
    const { table, progress, insert, parameter } = this.options;
    // Before anything is read, which in MariaDB is as it was at the first read.
    if (instead !== undefined)
      await rows(`UPDATE ${table} SET shard = ${parameter(1)} WHERE one = 1 AND shard = ${parameter(2)}`, [wanted, instead]);
    const remembered = async () => (await rows(`SELECT shard FROM ${table} WHERE one = 1`, []))[0]?.["shard"];
    const found = await remembered();
    if (found !== undefined) return String(found);
    const isFilled = (await rows(`SELECT 1 AS filled FROM ${progress} LIMIT 1`, [])).length > 0;
    const [before, after] = insert;
    await rows(`${before} INTO ${table} (one, shard) VALUES (1, ${parameter(1)})${after}`, [isFilled ? "" : wanted]);
    // Of two routers that start at once one makes the row, and both read it.
    return String(await remembered());
  }
}
