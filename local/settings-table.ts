import { COMMON_SETTINGS } from "@cascade/shared/config";
import type { Setting, Settings } from "@cascade/shared/settings";
import { CDC_SETTINGS } from "../cdc/src/config.ts";
import { ROUTER_SETTINGS } from "../shard-router/src/config.ts";

/** The README's configuration tables, written from the settings that the services read. */

export function settingsTables(): string {
  const own = (settings: Settings) => Object.entries(settings).filter(([name]) => !(name in COMMON_SETTINGS));
  return [
    section("cdc", own(CDC_SETTINGS)),
    section("shard-router", own(ROUTER_SETTINGS)),
    section("Both", Object.entries(COMMON_SETTINGS)),
  ].join("\n\n");
}

function section(title: string, settings: readonly (readonly [string, Setting<unknown>])[]): string {
  const rows = settings.map(
    ([name, setting]) =>
      `| \`${name}\`${setting.file ? " ¹" : ""} | ${shownDefault(setting)} | ${cell(setting.kind.allowed)} | ${cell(setting.meaning)} |`,
  );
  return [`**${title}**`, "", "| variable | default | allowed | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

function shownDefault({ default: value, shownDefault: shown }: Setting<unknown>): string {
  if (shown !== undefined) return shown;
  if (value === undefined) return "required";
  return value === null ? "none" : `\`${value}\``;
}

const cell = (text: string): string => text.replaceAll("|", "\\|");
