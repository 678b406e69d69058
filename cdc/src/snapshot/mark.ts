import type { TableName } from "@cascade/shared/topic";

/** What a snapshot writes into main-db's WAL, to find its place in the stream again. */
export interface SnapshotMark extends TableName {
  /** Nobody else's, in this life or another. */
  readonly id: string;
}

export const encodeMark = ({ id, schema, table }: SnapshotMark): string => JSON.stringify({ id, schema, table });

/** null when it is not one of ours. */
export function decodeMark(content: string): SnapshotMark | null {
  try {
    const { id, schema, table } = JSON.parse(content) as Partial<Record<keyof SnapshotMark, unknown>>;
    if (typeof id !== "string" || typeof schema !== "string" || typeof table !== "string") return null;
    return { id, schema, table };
  } catch {
    return null;
  }
}

/** The table that it names; null when it names none. */
export const markedTable = (content: string): TableName | null => decodeMark(content);
