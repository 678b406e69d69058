import pg from "pg";
import { cleanups } from "./source-lab.ts";

/** Keys that are taken already, among what is made up. */
const UNIQUE_VIOLATION = "23505";

/** A session that changes tables, one of the statements after the other by chance, until the function is called; resolves to how many. */
export async function startChanges(url: string, statements: readonly string[], pauseMs = 2): Promise<() => Promise<number>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  let stopped = false;
  let done = 0;
  const loading = (async () => {
    while (!stopped) {
      const text = statements[Math.floor(Math.random() * statements.length)] ?? "";
      await client.query(text).catch((error: { code?: string }) => {
        if (error.code !== UNIQUE_VIOLATION) throw error;
      });
      done++;
      await Bun.sleep(pauseMs);
    }
  })();
  loading.catch(() => undefined); // `stop` says it
  const stop = async () => {
    stopped = true;
    await loading;
    await client.end().catch(() => undefined);
    return done;
  };
  cleanups.push(stop);
  return stop;
}
