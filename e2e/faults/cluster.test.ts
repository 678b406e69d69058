import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { startTestCluster } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import { moreChanges, startLoad } from "../load.ts";
import { openPipeline } from "../pipeline.ts";
import { withAdmin } from "../topics.ts";

/** Three brokers, each partition on all of them: a killed leader is a pause, and what it had acknowledged is on the next. */
test("the leader of the tables' topics is killed under load, comes back, and so does the next", async () => {
  await using cluster = await startTestCluster();
  const [first] = cluster.nodes;
  if (first === undefined) throw new Error("the cluster has no node");
  const kafka = { ...first, brokers: cluster.brokers };
  await using pipeline = await openPipeline({
    name: "faults_cluster",
    engines: ["postgres", "sqlite"],
    kafka,
    schema: createDemoSchema,
  });
  await (await pipeline.cdc()).ready();
  await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  const load = startLoad(pipeline.mainUrl, { seed: 6, changesPerSecond: 300 });
  const partition = () =>
    withAdmin(cluster.brokers, async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [`${pipeline.name}.public.orders`] });
      return topics[0]?.partitions[0];
    });
  await moreChanges(load, 200);
  expect((await partition())?.replicas.length).toBe(3);
  for (let round = 0; round < 2; round++) {
    const leader = (await partition())?.leader ?? -1;
    const node = cluster.nodes[leader - 1];
    await node?.kill();
    await moreChanges(load, 300);
    const isLedByAnother = async (): Promise<boolean> => ![leader, -1, undefined].includes((await partition())?.leader);
    expect(await until(isLedByAnother, 20_000)).toBe(true);
    await node?.start();
    await moreChanges(load, 100);
  }
  await load.stop();
  await pipeline.expectEqual();
}, 120_000);
