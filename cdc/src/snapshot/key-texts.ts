import type { RowJson } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { wireKindOf } from "../postgres/wire-value.ts";
import { membersOf } from "./row-json.ts";
import type { KeyTexts } from "./table-reader.ts";

/** The columns of a key as PostgreSQL's own texts, which its types read back, from the key's wire JSON. */
export function keyTexts(key: RowJson, { columns }: TableSchema): KeyTexts {
  const kinds = new Map(columns.map(({ name, typeOid }) => [name, wireKindOf(typeOid)]));
  const texts: Record<string, string> = {};
  for (const [name, json] of membersOf(key)) {
    const text = json.startsWith('"') ? (JSON.parse(json) as string) : json;
    texts[name] = kinds.get(name) === "bytea" ? `\\x${Buffer.from(text, "base64").toString("hex")}` : text;
  }
  return texts;
}
