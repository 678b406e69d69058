import { testPostgres } from "@cascade/local/servers.ts";
import { type OwnedEvent, withOwnRows } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import pg from "pg";
import type { ChangeSource, SourceMessage } from "../src/change-source.ts";
import { Catalog } from "../src/postgres/catalog.ts";
import { ChangeDecoder } from "../src/postgres/change-decoder.ts";
import { withLostNumbers } from "../src/postgres/lost-numbers.ts";
import { NumberReader } from "../src/postgres/number-reader.ts";
import { probePlugin } from "../src/postgres/plugin-options.ts";
import { PollSource } from "../src/postgres/poll-source.ts";
import { connect } from "../src/postgres/session.ts";
import { ensureSlot, slotState } from "../src/postgres/slot.ts";
import { advancing } from "../src/postgres/undecodable.ts";
import { WalSource } from "../src/postgres/wal-source.ts";

/** Sources on a real server, each test with a database and slot of its own; all of it goes after the test. */

export const cleanups: (() => Promise<unknown>)[] = [];
/** For `afterEach` of every file that uses the lab: a hook of this module would be the first file's alone. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export interface Lab {
  readonly url: string;
  readonly slot: string;
  sql(text: string): Promise<pg.QueryResult>;
}

let labs = 0;
export async function lab(setup: string): Promise<Lab> {
  const server = await testPostgres();
  const name = `source_${process.pid}_${++labs}`;
  const url = await server.createDatabase(name);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  cleanups.push(async () => {
    await client.end();
    await server.dropDatabase(name);
  });
  if (setup !== "") await client.query(setup);
  const session = await connect(url);
  await ensureSlot(session, { slot: name, hasPublished: false });
  await session.end();
  return { url, slot: name, sql: (text) => client.query(text) };
}

export type Mode = "stream" | "poll";

export async function open(mode: Mode, { url, slot }: Lab, warnings: string[] = []): Promise<ChangeSource> {
  const session = await connect(url);
  cleanups.push(() => session.end());
  const catalog = new Catalog(session, parseTableFilter("public.*"), "cascade");
  const warn = (message: string) => void warnings.push(message);
  const { options: pluginOptions, losesNumbers } = await probePlugin(session, slot);
  const decoder = new ChangeDecoder({ catalog, warn, losesNumbers });
  const from = (await slotState(session, slot))?.confirmedLsn ?? 0n;
  const slotSource =
    mode === "stream"
      ? await WalSource.open({
          client: await connect(url, { replication: true }),
          slot,
          pluginOptions,
          decoder,
          from,
          lingerMs: 0,
          advance: advancing(url, slot),
          maxMessages: 2000,
        })
      : new PollSource({ client: await connect(url), slot, pluginOptions, decoder, from, intervalMs: 10 });
  const reader = losesNumbers ? await NumberReader.open(url, warn) : null;
  const source = reader === null ? slotSource : withLostNumbers(slotSource, decoder, reader);
  let open = true;
  const close = async () => {
    if (open) await source[Symbol.asyncDispose]();
    if (open) await reader?.[Symbol.asyncDispose]();
    open = false;
  };
  cleanups.push(close);
  return { messages: (signal) => source.messages(signal), confirm: (lsn) => source.confirm(lsn), [Symbol.asyncDispose]: close };
}

/** Pulls until `enough`, confirming nothing. */
export async function read(source: ChangeSource, enough: (seen: readonly SourceMessage[]) => boolean): Promise<SourceMessage[]> {
  const seen: SourceMessage[] = [];
  const stop = new AbortController();
  for await (const messages of source.messages(stop.signal)) {
    seen.push(...messages);
    if (enough(seen)) break;
  }
  return seen;
}

export const commits = (count: number) => (seen: readonly SourceMessage[]) =>
  seen.filter(({ kind }) => kind === "commit").length >= count;
export const eventsOf = (seen: readonly SourceMessage[]): OwnedEvent[] =>
  seen.flatMap((m) => (m.kind === "change" ? [withOwnRows(m.event)] : []));

export async function codeOf(act: Promise<unknown>): Promise<string> {
  try {
    await act;
  } catch (error) {
    if (error instanceof CascadeError) return error.code;
    throw error;
  }
  return "none";
}
