import { isEqual, type TableComparison } from "./canonical-state.ts";
import type { CdcStatus, RouterStatus } from "./service-status.ts";

/** What the demo shows at one moment; null while a service has not answered yet. */
export interface DemoMoment {
  readonly seconds: number;
  readonly phase: string;
  /** Row changes that the workload committed on main-db. */
  readonly written: number;
  readonly cdc: CdcStatus | null;
  readonly routers: readonly { readonly name: string; readonly status: RouterStatus | null }[];
}

/** Shows moments: in a terminal a block redrawn in place, elsewhere a line each. */
export interface Screen {
  show(moment: DemoMoment): void;
  /** Writes lines that stay, above what is shown next. */
  say(text: string): void;
}

export function screenOn(output: NodeJS.WriteStream): Screen {
  let drawn = 0;
  const erase = (): string => {
    const up = drawn === 0 ? "" : `\x1b[${drawn}A\x1b[J`;
    drawn = 0;
    return up;
  };
  return {
    say: (text) => output.write(`${output.isTTY ? erase() : ""}${text}\n`),
    show: (moment) => {
      if (!output.isTTY) {
        output.write(`${line(moment)}\n`);
        return;
      }
      // A line that wraps would be two, and the next redraw one short.
      const lines = block(moment).map((text) => text.slice(0, (output.columns ?? 80) - 1));
      output.write(`${erase()}${lines.join("\n")}\n`);
      drawn = lines.length;
    },
  };
}

const whole = (count: number | undefined): string => (count === undefined ? "-" : Math.round(count).toLocaleString("en-US"));
const milliseconds = (value: number | null | undefined): string => (value == null ? "-" : `${whole(value)} ms`);
const captured = (cdc: CdcStatus | null): number | undefined => cdc?.capturedTotal ?? cdc?.eventsTotal;

/** The whole of it is told at the end. */
const cut = (text: string): string => (text.length > 120 ? `${text.slice(0, 117)}...` : text);

function line({ seconds, phase, written, cdc, routers }: DemoMoment): string {
  const replicas = routers.map(({ name, status }) => {
    const trouble = troubleOf(status);
    const { p50, p99 } = status?.lagMs ?? {};
    return `${name}: applied ${whole(status?.eventsTotal)}, lag p50 ${milliseconds(p50)} p99 ${milliseconds(p99)}${trouble === null ? "" : ` (${cut(trouble)})`}`;
  });
  const capture = `captured ${whole(captured(cdc))}, published ${whole(cdc?.eventsTotal)}`;
  return [`${seconds.toFixed(0).padStart(3)} s ${phase}: written ${whole(written)}`, capture, ...replicas].join(" | ");
}

function block({ seconds, phase, written, cdc, routers }: DemoMoment): readonly string[] {
  const row = (name: string, cells: readonly string[]): string =>
    `  ${name.padEnd(14)}${cells.map((cell) => cell.padStart(13)).join("")}`;
  const troubles = [cdc, ...routers.map(({ status }) => status)].map(troubleOf);
  const names = ["cdc", ...routers.map(({ name }) => name)];
  return [
    "",
    `  ${phase}, ${seconds.toFixed(0)} s`,
    row("main-db", [`${whole(written)} written`.padStart(26)]),
    row("cdc", [`${whole(captured(cdc))} captured`.padStart(26), `${whole(cdc?.eventsTotal)} published`.padStart(26)]),
    row("", ["", "applied", "behind", "lag p50", "lag p99"]),
    ...routers.map(({ name, status }) =>
      row(name, [
        "",
        whole(status?.eventsTotal),
        whole(status?.lagEvents),
        milliseconds(status?.lagMs.p50),
        milliseconds(status?.lagMs.p99),
      ]),
    ),
    ...troubles.flatMap((trouble, at) => (trouble === null ? [] : [`  ${names[at]}: ${trouble}`])),
  ];
}

/** Why a service is not well, in one line; null when it is. */
export function troubleOf(status: CdcStatus | RouterStatus | null): string | null {
  if (status === null) return "does not answer";
  if (status.service === "shard-router") {
    const held = status.tables.find((table) => table.state === "held");
    if (held !== undefined) return `${held.table} is held: ${held.error?.message ?? "it does not say why"}`;
  }
  return status.ready ? null : (status.reasons[0] ?? status.lastError?.message ?? "not ready");
}

/** What to do about it, as far as the service knows. */
export function adviceOf(status: CdcStatus | RouterStatus | null): readonly string[] {
  const held = status?.service === "shard-router" ? status.tables.flatMap(({ error }) => error?.advice ?? []) : [];
  return held.length > 0 || status?.lastError == null ? held : [status.lastError.advice];
}

/** One line per table and replica. */
export function verdictTable(results: readonly { readonly name: string; readonly tables: readonly TableComparison[] }[]): string {
  const header = ["replica", "table", "rows", "missing", "extra", "different", ""];
  const rows = results.flatMap(({ name, tables }) =>
    tables.map((table) => [
      name,
      table.table,
      ...[table.rows, table.missing, table.extra, table.different].map(whole),
      isEqual(table) ? "equal" : `NOT EQUAL: ${table.firstDifference}`,
    ]),
  );
  const all = [header, ...rows];
  const widths = header.map((_, at) => Math.max(...all.map((cells) => cells[at]?.length ?? 0)));
  return all
    .map((cells) =>
      cells
        .map((cell, at) => (at >= 2 && at <= 5 ? cell.padStart(widths[at] ?? 0) : at === 6 ? cell : cell.padEnd(widths[at] ?? 0)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
