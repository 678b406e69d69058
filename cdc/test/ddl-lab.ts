import { type ChangeEvent, type OwnedEvent, withOwnRows } from "@cascade/shared/change-event";
import { type Lsn, parseLsn } from "@cascade/shared/lsn";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { decodeSchemaMessage, encodeSchemaNews, type SchemaMessage, type TableSchema } from "@cascade/shared/table-schema";
import { schemaMessageOf } from "../src/announced.ts";
import { batchesOf } from "../src/batching.ts";
import type { SourceMessage } from "../src/change-source.ts";
import type { Announcement } from "../src/event-publisher.ts";
import { Catalog } from "../src/postgres/catalog.ts";
import { ChangeDecoder } from "../src/postgres/change-decoder.ts";
import { type DdlMode, ensureDdlCapture } from "../src/postgres/ddl-capture.ts";
import { DdlWatch } from "../src/postgres/ddl-watch.ts";
import { probePlugin } from "../src/postgres/plugin-options.ts";
import { connect, disconnect } from "../src/postgres/session.ts";
import { slotState } from "../src/postgres/slot.ts";
import { advancing } from "../src/postgres/undecodable.ts";
import { WalSource } from "../src/postgres/wal-source.ts";
import { SchemaHistory } from "../src/schema-history.ts";
import { cleanups, type Lab } from "./source-lab.ts";

/** Lives of cdc on a real server, with what they would leave in Kafka in memory. */

/** What is in Kafka, in the order in which it became durable: an announcement, or an event. */
export type Durable = { readonly said: SchemaMessage } | { readonly event: OwnedEvent };

export class DdlLab {
  readonly log: Durable[] = [];
  readonly warnings: string[] = [];
  readonly #lab: Lab;
  readonly #url: string;
  readonly #mode: DdlMode;
  readonly #tables: string;

  constructor(
    lab: Lab,
    { mode = "required", url = lab.url, tables = "public.*" }: { mode?: DdlMode; url?: string; tables?: string } = {},
  ) {
    this.#lab = lab;
    this.#url = url;
    this.#mode = mode;
    this.#tables = tables;
  }

  get said(): readonly SchemaMessage[] {
    return this.log.flatMap((one) => ("said" in one ? [one.said] : []));
  }
  get events(): readonly OwnedEvent[] {
    return this.log.flatMap((one) => ("event" in one ? [one.event] : []));
  }

  /** The schema that an event names, as a router finds it. */
  schemaOf({ table }: ChangeEvent): TableSchema {
    const found = this.said.find((said) => said.kind === "schema" && said.schema.id === table.schemaId);
    if (found?.kind !== "schema") throw new Error(`schema of ${table.table} was never announced`);
    return found.schema;
  }

  /** Opens a life; `until` pumps it. */
  async life(): Promise<Life> {
    const warn = (message: string) => void this.warnings.push(message);
    const [session, ddlSession] = [await connect(this.#url), await connect(this.#url)];
    const catalog = new Catalog(session, parseTableFilter(this.#tables), "cascade");
    const { options: pluginOptions, losesNumbers } = await probePlugin(session, this.#lab.slot);
    const history = new SchemaHistory([...this.said]);
    const decoder = new ChangeDecoder({ catalog, warn, losesNumbers, history });
    decoder.told = await ensureDdlCapture(ddlSession, this.#mode, warn);
    const from = (await slotState(session, this.#lab.slot))?.confirmedLsn ?? 0n;
    this.#announce(decoder.tables.begin(await catalog.captured(), from));
    const watch = new DdlWatch({ client: ddlSession, catalog, decoder, mode: this.#mode, warn });
    await watch.begin();
    const client = await connect(this.#url, { replication: true });
    const source = await WalSource.open({
      client,
      slot: this.#lab.slot,
      pluginOptions,
      decoder,
      from: 0n,
      lingerMs: 0,
      advance: advancing(this.#url, this.#lab.slot),
      maxMessages: 2000,
    });
    let open = true;
    const close = async () => {
      if (open)
        for (const end of [() => source[Symbol.asyncDispose](), () => disconnect(session), () => disconnect(ddlSession)])
          await end();
      open = false;
    };
    cleanups.push(close);
    const publish = (messages: readonly SourceMessage[], confirm: boolean, stopAfter: number) =>
      this.#publish(messages, (lsn) => confirm && source.confirm(lsn), stopAfter);
    const end = async () => {
      const { rows } = await this.#lab.sql("SELECT pg_logical_emit_message(true, 'nothing', '')::text AS lsn");
      return parseLsn((rows[0] as { lsn: string }).lsn);
    };
    const differing = async () => decoder.tables.announcer.differing(await catalog.captured());
    return new Life({ source, decoder, watch, close, publish, end, differing });
  }

  #announce(news: readonly Announcement[]): void {
    for (const item of news) {
      const { key, value } = encodeSchemaNews(schemaMessageOf(item));
      this.log.push({ said: decodeSchemaMessage(key, value) });
    }
  }

  /** As the pump does, dying after so many batches. */
  #publish(messages: readonly SourceMessage[], confirm: (lsn: Lsn) => void, batches: number): number {
    let done = 0;
    for (const batch of batchesOf(messages, { maxRows: 3, maxBytes: 1e6 })) {
      if (done++ >= batches) return done;
      this.#announce(batch.schemas);
      for (const event of batch.events) this.log.push({ event: withOwnRows(event) });
      if (batch.confirmable !== null) confirm(batch.confirmable);
    }
    return done;
  }
}

interface LifeParts {
  readonly source: WalSource;
  readonly decoder: ChangeDecoder;
  readonly watch: DdlWatch;
  readonly close: () => Promise<void>;
  /** Tables that the catalog has otherwise than was announced. */
  readonly differing: () => Promise<readonly number[]>;
  /** Commits something, and says where. */
  readonly end: () => Promise<Lsn>;
  /** Publishes so many batches at most; resolves to how many there were. */
  readonly publish: (messages: readonly SourceMessage[], confirm: boolean, batches: number) => number;
}

export class Life {
  readonly parts: LifeParts;

  constructor(parts: LifeParts) {
    this.parts = parts;
  }

  /** Pumps until `enough`, confirming all unless told otherwise. */
  async until(enough: () => boolean, confirm = true): Promise<void> {
    if (enough()) return;
    for await (const messages of this.parts.source.messages(new AbortController().signal)) {
      this.parts.publish(messages, confirm, Number.POSITIVE_INFINITY);
      if (enough()) return;
    }
  }

  /** Publishes that many batches more, or all that there is now, and dies, with them confirmed or not. */
  async dieAfter(batches: number, confirm = false): Promise<void> {
    const end = await this.parts.end();
    let left = batches;
    for await (const messages of this.parts.source.messages(new AbortController().signal)) {
      left -= this.parts.publish(messages, confirm, left);
      if (left <= 0 || messages.some((message) => message.kind === "commit" && message.endLsn >= end)) break;
    }
    await this.parts.close();
  }
}
