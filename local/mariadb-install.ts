import { existsSync } from "node:fs";
import { join } from "node:path";

export interface MariadbInstall {
  readonly server: string;
  readonly installer: string;
}

/** The installed MariaDB's programs; null when there is none. */
export function findMariadb(): MariadbInstall | null {
  const server = findProgram("mariadbd");
  const installer = findProgram("mariadb-install-db");
  return server === null || installer === null ? null : { server, installer };
}

// Debian puts the server in a folder that isn't on everybody's PATH.
function findProgram(name: string): string | null {
  return Bun.which(name) ?? ["/usr/sbin", "/usr/local/sbin"].map((folder) => join(folder, name)).find(existsSync) ?? null;
}
