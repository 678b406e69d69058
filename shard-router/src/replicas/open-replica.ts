import { basename, extname } from "node:path";
import type { DialectName } from "../dialect.ts";
import type { Replica } from "../replica.ts";

/** What a REPLICA_URL leads to; nothing is opened before `open`. */
export interface ReplicaTarget {
  readonly dialect: DialectName;
  /** The replica's name unless REPLICA_NAME says otherwise: the database, or the file without its extension. */
  readonly defaultName: string;
  /** What an engine within this process takes of its memory, beyond our heap's reach. */
  readonly engineBytes: number;
  open(): Promise<Replica>;
}

/** DuckDB's library, its blocks and what its allocators keep of each batch (docs/decisions/0016). SQLite's 20 MB fit in with ours. */
const DUCKDB_BYTES = 150e6;

/** Each with its driver only where it is opened: MariaDB's alone takes 23 MB of memory, pg 11. */
const ENGINES = {
  postgres: async (url: string) => (await import("./postgres.ts")).openPostgresReplica(url),
  mysql: async (url: string) => (await import("./mysql.ts")).openMysqlReplica(url),
  sqlite: async (path: string) => (await import("./sqlite.ts")).openSqliteReplica(path),
  duckdb: async (path: string) => (await import("./duckdb.ts")).openDuckdbReplica(path),
} as const;

/** For people: what REPLICA_URL may be. */
export const REPLICA_URL_FORMS =
  "postgres://user:password@host:port/database, mysql:// or mariadb:// likewise, sqlite:///path/file.db, duckdb:///path/file.duckdb (sqlite:relative.db, duckdb:relative.duckdb)";

/** Reads a REPLICA_URL. Throws SyntaxError, without the URL's text: it may hold a password. */
export function parseReplicaUrl(url: string): ReplicaTarget {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase();
  switch (scheme) {
    case "postgres":
    case "postgresql":
      return serverTarget(url, "postgres", ENGINES.postgres);
    case "mysql":
    case "mariadb":
      checkMysqlOptions(url);
      return serverTarget(url, scheme, ENGINES.mysql);
    case "sqlite":
      return fileTarget(url, scheme, ENGINES.sqlite);
    case "duckdb":
      return fileTarget(url, scheme, ENGINES.duckdb);
    case undefined:
      throw new SyntaxError(`has no scheme; allowed: ${REPLICA_URL_FORMS}`);
    default:
      throw new SyntaxError(`unknown scheme ${scheme}; allowed: ${REPLICA_URL_FORMS}`);
  }
}

function serverTarget(url: string, dialect: DialectName, open: (url: string) => Promise<Replica>): ReplicaTarget {
  if (!URL.canParse(url))
    throw new SyntaxError(`cannot be read; allowed: ${REPLICA_URL_FORMS} (special characters of a password as %XX)`);
  const { pathname, username, password, hostname, searchParams } = new URL(url);
  if (hostname === "" && !searchParams.has("host")) throw new SyntaxError(`names no host; allowed: ${REPLICA_URL_FORMS}`);
  // PostgreSQL takes the user's name for the database's when there is none.
  const database = decoded(pathname.slice(1)) || (dialect === "postgres" ? decoded(username) : "");
  decoded(password); // the driver will
  if (database === "") throw new SyntaxError(`names no database; allowed: ${REPLICA_URL_FORMS}`);
  return { dialect, defaultName: database, engineBytes: 0, open: () => open(url) };
}

const MYSQL_OPTIONS: Readonly<Record<string, RegExp>> = {
  ssl: /^(?:true|false|no-verify)$/,
  "ssl-ca": /./,
  allowPublicKeyRetrieval: /^(?:true|false)$/,
};

/** Another driver's way to ask for TLS, passed over in silence, would send password and rows in the clear. */
function checkMysqlOptions(url: string): void {
  if (!URL.canParse(url)) return;
  for (const [name, value] of new URL(url).searchParams) {
    if (MYSQL_OPTIONS[name]?.test(value) === true) continue;
    throw new SyntaxError(
      `has an option that mysql:// and mariadb:// do not know, or a value of one; known: ssl=true, ssl=no-verify, ssl-ca=FILE, allowPublicKeyRetrieval=true`,
    );
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new SyntaxError(
      `has a % that is not followed by a character's code; write %25 for a % itself; allowed: ${REPLICA_URL_FORMS}`,
    );
  }
}

function fileTarget(url: string, dialect: "sqlite" | "duckdb", open: (path: string) => Promise<Replica>): ReplicaTarget {
  const rest = url.slice(`${dialect}:`.length);
  if (rest.startsWith("//") && !rest.startsWith("///")) {
    throw new SyntaxError(`${dialect}:// names a host; write ${dialect}:///absolute/path.db or ${dialect}:relative.db`);
  }
  const path = decoded(rest.replace(/^\/\/\//, "/"));
  if (path === "" || path.endsWith("/") || path.includes("\0"))
    throw new SyntaxError(`names no file; allowed: ${REPLICA_URL_FORMS}`);
  if (path.startsWith(":") || path.includes("?"))
    throw new SyntaxError("must name a file on disk, without options: progress must outlive the router");
  const file = basename(path);
  const engineBytes = dialect === "duckdb" ? DUCKDB_BYTES : 0;
  return { dialect, defaultName: basename(file, extname(file)), engineBytes, open: () => open(path) };
}
