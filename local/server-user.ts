import { chmodSync, chownSync, existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Whom a database server runs as: itself when null. */
export type ServerUser = { readonly uid: number; readonly gid: number } | null;

/** PostgreSQL refuses to run as root, so root lends its servers the system's own user for it. */
export function serverUser(): ServerUser {
  if (process.getuid?.() !== 0) return null;
  const [uid, gid] = ["-u", "-g"].map((which) => Bun.spawnSync(["id", which, "postgres"]).stdout.toString().trim());
  if (!uid || !gid) throw new Error("Running as root needs a system user named postgres to run the servers as: there is none.");
  return { uid: Number(uid), gid: Number(gid) };
}

/**
 * The folder, made if missing and owned by the user. Where the user can't reach it (a clone below /root), a folder
 * of the system's temporary directory stands in for it, always the same one for the same folder.
 */
export function serverFolder(wanted: string, user: ServerUser): string {
  if (user === null) {
    mkdirSync(wanted, { recursive: true });
    return wanted;
  }
  if (canReach(wanted, user)) return makeFolder(wanted, user);
  const standIn = join(tmpdir(), `cascade-${Bun.hash(wanted).toString(36)}`);
  if (!canReach(standIn, user))
    throw new Error(`Neither ${wanted} nor ${standIn} can be reached by the user ${user.uid}, whom the server runs as.`);
  return makeFolder(standIn, user);
}

function makeFolder(folder: string, user: NonNullable<ServerUser>): string {
  const missing: string[] = [];
  for (let path = folder; !existsSync(path); path = dirname(path)) missing.push(path);
  mkdirSync(folder, { recursive: true });
  // Whatever our umask says, the user must get through.
  for (const path of missing) chmodSync(path, 0o755);
  chownSync(folder, user.uid, user.gid);
  return folder;
}

function canReach(folder: string, user: NonNullable<ServerUser>): boolean {
  let existing = folder;
  while (!existsSync(existing)) existing = dirname(existing);
  return Bun.spawnSync(["test", "-x", existing], { cwd: "/", ...user }).exitCode === 0;
}
