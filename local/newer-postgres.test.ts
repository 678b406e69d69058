import { expect, test } from "bun:test";
import { findNewerPostgres, needed } from "./newer-postgres.ts";

test("of what apt would install, the server and its libraries are taken", () => {
  const simulation = `NOTE: This is only a simulation!
Inst gcc-14-base (14.2.0-19 Debian:13.0/stable [amd64])
Inst libc6 (2.41-12 Debian:13.0/stable [amd64])
Inst libc-bin (2.41-12 Debian:13.0/stable [amd64])
Inst zlib1g (1:1.3.dfsg Debian:13.0/stable [amd64])
Inst libperl5.40 (5.40.1 Debian:13.0/stable [amd64])
Inst libjson-perl (4.10000-1 Debian:13.0/stable [all])
Inst libllvm19 (1:19.1.7 Debian:13.0/stable [amd64])
Inst libssl3t64 (3.5.9 Debian:13.0/stable [amd64])
Inst postgresql-common (278 Debian:13.0/stable [all])
Inst postgresql-client-17 (17.12 Debian:13.0/stable [amd64])
Inst postgresql-17 (17.12 Debian:13.0/stable [amd64])
Inst postgresql-17-wal2json (2.6-2 Debian:13.0/stable [amd64])
Conf libc6 (2.41-12 Debian:13.0/stable [amd64])`;
  expect(needed(simulation)).toEqual([
    ...["libc6", "zlib1g", "libssl3t64"],
    ...["postgresql-client-17", "postgresql-17", "postgresql-17-wal2json"],
  ]);
});

test.skipIf(findNewerPostgres() === null)("what was fetched runs", () => {
  const install = findNewerPostgres();
  if (install === null) throw new Error("skipped");
  for (const program of ["postgres", "initdb", "pg_basebackup"]) {
    const said = Bun.spawnSync([`${install.bin}/${program}`, "--version"], { cwd: "/" }).stdout.toString();
    expect(Number(/\d+/.exec(said)?.[0])).toBe(install.majorVersion);
  }
});
