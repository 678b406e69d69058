import type { TableSchema } from "@cascade/shared/table-schema";

/** Whether the key is of the same columns, by attnum: they may have other names. */
export function sameKey(from: TableSchema, to: TableSchema): boolean {
  const numbers = ({ key, columns }: TableSchema) => key.map((name) => columns.find((column) => column.name === name)?.attnum);
  return numbers(from).join() === numbers(to).join();
}
