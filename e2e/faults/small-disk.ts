import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A file system of its own that is soon full. Only root may make one. */
export interface SmallDisk extends Disposable {
  readonly folder: string;
  /** As if somebody had made room. */
  grow(mebibytes: number): void;
}

export const canMount = process.getuid?.() === 0 && process.platform === "linux";

export function mountSmallDisk(mebibytes: number): SmallDisk {
  const folder = mkdtempSync(join(tmpdir(), "cascade-disk-"));
  sh("mount", "-t", "tmpfs", "-o", `size=${mebibytes}m,mode=0777`, "tmpfs", folder);
  chmodSync(folder, 0o777);
  return {
    folder,
    grow: (size) => sh("mount", "-o", `remount,size=${size}m`, folder),
    [Symbol.dispose]: () => {
      // Lazily: a server that still has a file open must not keep the folder.
      sh("umount", "-l", folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function sh(...command: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([...command]);
  if (exitCode !== 0) throw new Error(`\`${command.join(" ")}\` failed: ${stderr}`);
}
