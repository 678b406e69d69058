import { kafkaClient } from "@cascade/shared/kafka";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import type { Admin, Kafka } from "kafkajs";

const silent = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

/** The client that Cascade uses, for the bench's own requests. */
export const benchClient = (brokers: string, sockets: KafkaSockets): Kafka =>
  kafkaClient({ brokers: brokers.split(","), clientId: "bench", ssl: null, sasl: null, logger: silent }, sockets);

export interface BenchAdmin extends AsyncDisposable {
  readonly admin: Admin;
}

export async function openAdmin(brokers: string): Promise<BenchAdmin> {
  const sockets = new KafkaSockets();
  const admin = benchClient(brokers, sockets).admin();
  await admin.connect();
  return { admin, [Symbol.asyncDispose]: () => sockets.disconnect(admin) };
}
