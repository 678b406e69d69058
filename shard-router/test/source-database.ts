import pg from "pg";
import { type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** A PostgreSQL that says how values look: in the texts that cdc reads, with every type of a user's named in full. */
export interface SourceDatabase extends AsyncDisposable {
  readonly lab: ReplicaLab;
  readonly client: pg.Client;
}

const PINNED =
  "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET lc_monetary = 'C'; SET extra_float_digits = 1; SET search_path = ''";

/** @param ddl what is to be there first */
export async function openSourceDatabase(ddl: string): Promise<SourceDatabase> {
  const lab = await replicaLab("postgres");
  const client = new pg.Client({ connectionString: lab.url });
  await client.connect();
  await client.query(`${ddl}; ${PINNED}`);
  return {
    lab,
    client,
    [Symbol.asyncDispose]: async () => {
      await client.end();
      await lab.close();
    },
  };
}
