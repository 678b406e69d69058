import { describe, expect, test } from "bun:test";
import { type Admin, ConfigSource, KafkaJSProtocolError } from "kafkajs";
import { Topics } from "./topics.ts";

const protocolError = (type: string) => Object.assign(new KafkaJSProtocolError(type), { type });
const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** An admin of a cluster where the topics are made by the second `createTopics` at the latest, and heard of late. */
function lab({ heardOfAfter = 0, creation = null as Error | null } = {}) {
  const created: string[][] = [];
  let asked = 0;
  let refusal = creation;
  const admin = {
    listTopics: async () => [],
    createTopics: async ({ topics }: { topics: { topic: string }[] }) => {
      created.push(topics.map(({ topic }) => topic));
      const error = refusal;
      refusal = null;
      if (error) throw error;
      return true;
    },
    fetchTopicMetadata: async ({ topics }: { topics: string[] }) => {
      if (asked++ < heardOfAfter) throw protocolError("UNKNOWN_TOPIC_OR_PARTITION");
      return { topics: topics.map((name) => ({ name, partitions: [{}] })) };
    },
    describeConfigs: async ({ resources }: { resources: { name: string }[] }) => ({
      resources: resources.map(({ name }) => ({
        resourceName: name,
        configEntries: [
          { configName: "max.message.bytes", configValue: "5000", configSource: ConfigSource.DYNAMIC_BROKER_CONFIG },
          { configName: "cleanup.policy", configValue: "delete", configSource: ConfigSource.DEFAULT_CONFIG },
        ],
      })),
    }),
  } as unknown as Admin;
  const settings = {
    compactedTopics: ["p.schemas"],
    isTableTopic: (topic: string) => topic.startsWith("p.public."),
    partitions: 1,
  };
  const topics = new Topics(admin, { ...settings, replicationFactor: -1, logger: silent });
  return { topics, created };
}

describe("Topics", () => {
  test("waits until the brokers have heard of a new topic", async () => {
    const { topics } = lab({ heardOfAfter: 3 });
    await topics.ensure(["p.public.t"]);
    expect(topics.limits("p.public.t")).toEqual({ maxMessageBytes: 5_000, partitions: 1 });
  });

  test("asks once per topic", async () => {
    const { topics, created } = lab();
    await topics.ensure(["p.public.a", "p.public.a"]);
    await topics.ensure(["p.public.a", "p.public.b"]);
    expect(created).toEqual([["p.public.a"], ["p.public.b"]]);
  });

  test("makes the rest one by one when some were made by another meanwhile", async () => {
    const creation = Object.assign(new Error("Topic creation errors"), {
      errors: [protocolError("TOPIC_ALREADY_EXISTS"), protocolError("NOT_ENOUGH_REPLICAS")],
    });
    const { topics, created } = lab({ creation });
    await topics.ensure(["p.public.a", "p.public.b"]);
    expect(created).toEqual([["p.public.a", "p.public.b"], ["p.public.a"], ["p.public.b"]]);
  });

  test("passes on why a topic cannot be made, and asks again the next time", async () => {
    const { topics, created } = lab({ creation: protocolError("POLICY_VIOLATION") });
    const error: unknown = await topics.ensure(["p.public.a"]).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "KAFKA_TOPIC_REFUSED", verdict: "refuse" });
    await topics.ensure(["p.public.a"]);
    expect(created).toHaveLength(2);
  });
});
