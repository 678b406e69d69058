import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorTables } from "./errors-page.ts";
import { metricsTable } from "./metrics-page.ts";
import { repository } from "./paths.ts";
import { prometheusRule } from "./prometheus-rule.ts";
import { settingsTables } from "./settings-table.ts";
import { typesTables } from "./types-page.ts";

/** Parts of the documentation, and files, that are written from the code and from other files: `npm run docs`. */

export interface WrittenPart {
  /** From the repository's root. */
  readonly page: string;
  /** What its marks call it. */
  readonly name: string;
  readonly write: () => string;
}

export const WRITTEN_PARTS: readonly WrittenPart[] = [
  { page: "README.md", name: "settings", write: settingsTables },
  { page: "docs/types.md", name: "types", write: typesTables },
  { page: "docs/errors.md", name: "errors", write: errorTables },
  { page: "docs/observability.md", name: "metrics", write: metricsTable },
];

/** Whole files that are written from others. */
export interface WrittenFile {
  /** From the repository's root. */
  readonly file: string;
  readonly write: () => string;
}

export const WRITTEN_FILES: readonly WrittenFile[] = [
  { file: "deploy/kubernetes/monitoring/prometheus-rule.yml", write: prometheusRule },
];

export const readPage = ({ page }: WrittenPart): string => readFileSync(join(repository, page), "utf8");

/** The page as it should be. Throws when its marks are gone. */
export function pageWith({ page, name, write }: WrittenPart, text: string): string {
  const begin = `<!-- ${name}: written by \`npm run docs\` -->`;
  const [from, to] = [text.indexOf(begin), text.indexOf(`<!-- /${name} -->`)];
  if (from === -1 || to < from) throw new Error(`${page} has no ${begin} ... <!-- /${name} -->`);
  return `${text.slice(0, from + begin.length)}\n\n${write()}\n\n${text.slice(to)}`;
}

if (import.meta.main) {
  for (const part of WRITTEN_PARTS) writeFileSync(join(repository, part.page), pageWith(part, readPage(part)));
  for (const { file, write } of WRITTEN_FILES) writeFileSync(join(repository, file), write());
}
