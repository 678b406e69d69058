import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "./command.ts";
import { stateFolder } from "./paths.ts";

export interface PrometheusInstall {
  readonly server: string;
  /** Checks rules and metrics. */
  readonly promtool: string;
}

const fetched = join(stateFolder, "prometheus");

/** The installed Prometheus, or the one that `fetchPrometheus` has fetched; null when there is none: what needs it is skipped. */
export function findPrometheus(): PrometheusInstall | null {
  const found = (name: string): string | null => {
    const program = join(fetched, "usr/bin", name);
    return Bun.which(name) ?? (existsSync(program) ? program : null);
  };
  const [server, promtool] = [found("prometheus"), found("promtool")];
  return server === null || promtool === null ? null : { server, promtool };
}

/** Takes it out of Debian's package without installing that, which would start it as a service. Rejects where this is no Debian. */
export async function fetchPrometheus(): Promise<void> {
  const unfinished = `${fetched}.${process.pid}`;
  try {
    const packages = join(unfinished, "packages");
    mkdirSync(packages, { recursive: true });
    const download = (): Promise<string> => run(["apt-get", "-q", "download", "prometheus"], { cwd: packages });
    // A machine that has never read its package lists knows of none.
    await download().catch(async () => {
      await run(["apt-get", "-q", "update"]);
      await download();
    });
    const [file] = readdirSync(packages);
    if (file === undefined) throw new Error("apt-get downloaded nothing");
    await run(["dpkg-deb", "--extract", join(packages, file), join(unfinished, "root")]);
    if (!existsSync(fetched)) renameSync(join(unfinished, "root"), fetched);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}
