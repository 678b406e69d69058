import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { moreChanges, startLoad } from "../load.ts";
import { openFaultLab } from "./lab.ts";
import { LINK_FAULTS } from "./link-faults.ts";

/** Every link, in turn, is cut, slow, half-open, deaf in one direction, closed, and reset in the middle of a message. */
test("whatever a network does to a connection under load, the replicas end equal", async () => {
  const seed = seedFromEnvironment();
  const random = randomOf(seed);
  process.stderr.write(`faults/links, CASCADE_SEED=${seed}\n`);
  const engines = ["postgres", "mariadb"] as const;
  await using lab = await openFaultLab({ name: "faults_links", engines, schema: createDemoSchema });
  const services = [await lab.cdc(), ...(await Promise.all(engines.map((engine) => lab.router(engine))))];
  for (const service of services) await service.ready();
  const load = startLoad(lab.pipeline.mainUrl, { seed, changesPerSecond: 300 });
  await moreChanges(load, 100);
  // Two links at a time, never the same: what one does hides what the other does otherwise.
  const links = [...lab.links.values()];
  for (const [at, fault] of LINK_FAULTS.entries()) {
    for (const [place, link] of links.entries()) {
      if ((place + at) % 2 === 1) continue;
      const undo = await fault.strike(link, random);
      await Bun.sleep(random.between(50, 250));
      await undo();
    }
  }
  for (const [at, fault] of LINK_FAULTS.entries()) {
    const undo = await Promise.all(links.filter((_, place) => (place + at) % 2 === 1).map((link) => fault.strike(link, random)));
    await Bun.sleep(random.between(50, 250));
    for (const one of undo) await one();
  }
  expect(await load.stop()).toBeGreaterThan(200);
  await lab.pipeline.expectEqual();
}, 120_000);
