import type { Verdict } from "./errors.ts";

export interface ErrorCodeEntry {
  /** Who says so. */
  readonly by: "cdc" | "shard-router" | "both";
  /** What follows; several where it depends on the engine, or on when it is found. */
  readonly verdict: readonly Verdict[];
  readonly means: string;
  readonly cure: string;
}

const RETRY = ["retry"] as const;
const STOP = ["stop-table"] as const;
const REFUSE = ["refuse"] as const;
const FATAL = ["fatal"] as const;

/** Every code that an error of ours may have: in logs, `/status`, spans and metrics. docs/errors.md is written from it. */
export const ERROR_CODES = {
  // Both services
  CONFIGURATION: {
    by: "both",
    verdict: REFUSE,
    means: "A variable is missing, wrong, or names a file that cannot be read.",
    cure: "Correct the variable that the message names; the README lists what each may be.",
  },
  REFUSED: {
    by: "both",
    verdict: REFUSE,
    means: "Several findings keep the service from starting; each is logged with its own code.",
    cure: "Mend every finding: each says how.",
  },
  HTTP_PORT: {
    by: "both",
    verdict: REFUSE,
    means: "The address of HTTP_HOST and HTTP_PORT cannot be listened on.",
    cure: "Choose a free port and an address of this host.",
  },
  KAFKA_UNAVAILABLE: {
    by: "both",
    verdict: RETRY,
    means: "The brokers do not answer, or a partition has no leader.",
    cure: "Start them, or correct KAFKA_BROKERS and KAFKA_SSL. Nothing to do here: it is tried again for ever.",
  },
  KAFKA_AUTHENTICATION: {
    by: "both",
    verdict: REFUSE,
    means: "The brokers refuse the user or the SASL mechanism.",
    cure: "Correct KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD.",
  },
  KAFKA_AUTHORIZATION: {
    by: "both",
    verdict: REFUSE,
    means: "The Kafka user lacks a right on a topic, a group or the cluster.",
    cure: "Grant what the advice lists.",
  },
  KAFKA_TLS: {
    by: "both",
    verdict: REFUSE,
    means: "No encrypted connection: the brokers' certificates are not of a known authority, or of another host name.",
    cure: "Set KAFKA_SSL_CA_FILE, and use host names that are in the certificates.",
  },
  KAFKA_UNSUPPORTED: {
    by: "both",
    verdict: REFUSE,
    means: "The brokers lack a version of the protocol, or the compression.",
    cure: "Kafka 2.1 or newer; `none`, `gzip` or `zstd` as compression.",
  },
  KAFKA_TOPIC_REFUSED: {
    by: "both",
    verdict: REFUSE,
    means: "A policy of the brokers forbids a topic or its settings.",
    cure: "Create the topic by hand, or change the policy.",
  },
  KAFKA_UNKNOWN_TOPIC: {
    by: "both",
    verdict: RETRY,
    means: "A topic is gone while it was in use.",
    cure: "cdc makes it again; ask for a copy of its table for replicas that had not applied all of it.",
  },
  KAFKA_NOT_ENOUGH_REPLICAS: {
    by: "both",
    verdict: RETRY,
    means: "Fewer brokers are up than the topic's replicas or min.insync.replicas need.",
    cure: "Start the brokers that are down, or lower min.insync.replicas or KAFKA_REPLICATION_FACTOR.",
  },
  KAFKA_MESSAGE_TOO_LARGE: {
    by: "both",
    verdict: FATAL,
    means: "A message is larger than its topic takes.",
    cure: "Raise max.message.bytes of the topic.",
  },
  KAFKA_CLOCK: {
    by: "both",
    verdict: RETRY,
    means: "Kafka refuses a message whose time is too far ahead of its own.",
    cure: "Set the clock of cdc's machine, or the brokers'; it goes on by itself.",
  },
  KAFKA_GROUP: {
    by: "both",
    verdict: RETRY,
    means: "The consumer group has put this member out, or is being joined anew.",
    cure: "Nothing to do: it joins again.",
  },
  KAFKA_ERROR: {
    by: "both",
    verdict: RETRY,
    means: "Kafka or its client failed in a way that has no code of its own.",
    cure: "See the message and the brokers' logs; it is tried again with a fresh connection.",
  },
  TOPIC_NAME_TOO_LONG: {
    by: "both",
    verdict: REFUSE,
    means: "The topic of a table would have a name of more than 249 characters.",
    cure: "Shorten KAFKA_TOPIC_PREFIX, rename the table, or exclude it.",
  },

  // cdc
  MAIN_DB_AWAY: {
    by: "cdc",
    verdict: RETRY,
    means: "main-db does not answer, starts up or shuts down, or has no connection left.",
    cure: "Start it, or correct CDC_DATABASE_URL. Nothing to do here: it is tried again for ever.",
  },
  MAIN_DB_TLS: {
    by: "cdc",
    verdict: REFUSE,
    means: "No encrypted connection to main-db: its certificate is not of the authority, or of another host name.",
    cure: "Check the certificates, and sslmode and sslrootcert in CDC_DATABASE_URL.",
  },
  MAIN_DB_ERROR: {
    by: "cdc",
    verdict: RETRY,
    means: "main-db refused something with a SQLSTATE that has no code of its own.",
    cure: "Look the SQLSTATE up, and in main-db's log; it is tried again.",
  },
  LOGIN_REFUSED: {
    by: "cdc",
    verdict: REFUSE,
    means: "main-db refuses user, password or host.",
    cure: "Correct CDC_DATABASE_URL or pg_hba.conf.",
  },
  NO_SUCH_DATABASE: {
    by: "cdc",
    verdict: REFUSE,
    means: "There is no database of the name in CDC_DATABASE_URL.",
    cure: "Create it, or name the right one.",
  },
  MISSING_RIGHT: {
    by: "cdc",
    verdict: ["refuse", "stop-table"],
    means: "cdc's role lacks a right; found during a copy, that copy waits and the rest goes on.",
    cure: "Grant what the advice says.",
  },
  STANDBY: {
    by: "cdc",
    verdict: RETRY,
    means: "CDC_DATABASE_URL leads to a standby, from which nothing can be captured yet.",
    cure: "Nothing to do when it is about to be promoted; else name the primary.",
  },
  WAL_LEVEL: {
    by: "cdc",
    verdict: REFUSE,
    means: "wal_level is not logical: the WAL does not hold what row changes need.",
    cure: "Set wal_level = logical on main-db and restart it.",
  },
  PLUGIN_MISSING: {
    by: "cdc",
    verdict: REFUSE,
    means: "main-db's host lacks wal2json.",
    cure: "Install it (Debian: postgresql-<major>-wal2json).",
  },
  PLUGIN_REFUSED: {
    by: "cdc",
    verdict: REFUSE,
    means: "main-db's output_plugin_libraries does not name wal2json.",
    cure: "Add it, and reload the configuration.",
  },
  ENCODING: {
    by: "cdc",
    verdict: REFUSE,
    means: "Bytes of the database's encoding would arrive as they are.",
    cure: "CDC_MODE=poll, where the server converts them, or a UTF8 database.",
  },
  NOT_READY_FOR_LOGICAL: {
    by: "cdc",
    verdict: REFUSE,
    means: "main-db cannot decode logically: wal_level, or an invalidated slot.",
    cure: "Set wal_level = logical and restart main-db; of an invalidated slot the next start says more.",
  },
  SLOTS_EXHAUSTED: {
    by: "cdc",
    verdict: REFUSE,
    means: "max_replication_slots are in use.",
    cure: "Raise it, or drop a slot that nobody uses.",
  },
  SLOT_ACTIVE: {
    by: "cdc",
    verdict: RETRY,
    means: "Another cdc holds the slot.",
    cure: "Nothing to do when this one is meant as a standby: it takes over when the other one goes.",
  },
  SLOT_MISSING: {
    by: "cdc",
    verdict: RETRY,
    means: "The slot was dropped while cdc used it.",
    cure: "Nothing to do here: the next try says SLOT_LOST.",
  },
  SLOT_LOST: {
    by: "cdc",
    verdict: ["refuse", "retry"],
    means: "The slot is gone, or has lost WAL that was not read: changes since its last confirmed LSN will not arrive.",
    cure: "CDC_ON_SLOT_LOST=resnapshot has every table copied anew; raise max_slot_wal_keep_size so that it does not happen again.",
  },
  SLOT_MOVED: {
    by: "cdc",
    verdict: ["refuse", "retry"],
    means: "The slot stands beyond what cdc has confirmed: somebody has read or advanced it, or has dropped it and made it anew.",
    cure: "CDC_ON_SLOT_LOST=resnapshot has every table copied anew; or by hand, as the advice says.",
  },
  MAIN_DB_REPLACED: {
    by: "cdc",
    verdict: REFUSE,
    means: "CDC_DATABASE_URL leads to another server than before.",
    cure: "Let it lead to the right one; else as the advice says.",
  },
  MAIN_DB_SET_BACK: {
    by: "cdc",
    verdict: ["refuse", "retry"],
    means: "main-db lacks WAL that cdc has published: a restored backup, or a standby promoted without the newest changes.",
    cure: "As the advice says: where positions would run backwards, only a new KAFKA_TOPIC_PREFIX helps.",
  },
  SLOT_RECORD_UNREADABLE: {
    by: "cdc",
    verdict: REFUSE,
    means: "What <prefix>.signals says of the slot cannot be read.",
    cure: "Run the version of cdc that wrote it; else as the advice says.",
  },
  CDC_FENCED: {
    by: "cdc",
    verdict: RETRY,
    means: "Another cdc of this KAFKA_TOPIC_PREFIX has taken over.",
    cure: "Nothing to do: this one waits for its slot. Two that are to run at once need a prefix each.",
  },
  FOREIGN_SLOT: {
    by: "cdc",
    verdict: REFUSE,
    means: "The slot of that name is of another plugin or database.",
    cure: "Give cdc a slot of its own by CDC_SLOT, or drop that one.",
  },
  DDL_CAPTURE: {
    by: "cdc",
    verdict: REFUSE,
    means: "CDC_DDL=required, and the event triggers are not there and cannot be made.",
    cure: "Start cdc once as a superuser, or use CDC_DDL=auto.",
  },
  NO_REPLICA_IDENTITY: {
    by: "cdc",
    verdict: REFUSE,
    means: "A table has neither a primary key nor another replica identity: its updates and deletes would not say which row.",
    cure: "ALTER TABLE ... REPLICA IDENTITY FULL (or USING INDEX), a primary key, or exclude it.",
  },
  KEY_UNREAD: {
    by: "cdc",
    verdict: RETRY,
    means: "wal2json sent an update or a delete without its key, as it does when a table is altered in that moment.",
    cure: "Nothing to do: it is read from the slot again.",
  },
  SCHEMA_DRIFT: {
    by: "cdc",
    verdict: FATAL,
    means: "A row was written under a schema that cdc never saw, and that main-db's catalog no longer has.",
    cure: "Exclude the table, copy it anew; alter tables while cdc is caught up, or let it install its event triggers.",
  },
  UNKNOWN_WAL_MESSAGE: {
    by: "cdc",
    verdict: FATAL,
    means: "wal2json sent what cdc does not know.",
    cure: "Check wal2json's version; report it: nothing was skipped.",
  },
  ROW_TOO_LARGE: {
    by: "cdc",
    verdict: FATAL,
    means: "One change is larger than Kafka's limits allow, and cdc may not raise them.",
    cure: "Raise max.message.bytes and socket.request.max.bytes as the advice says, or exclude the table.",
  },
  KAFKA_LIMIT_LOWERED: {
    by: "cdc",
    verdict: RETRY,
    means: "max.message.bytes was lowered while cdc ran.",
    cure: "Nothing to do: it is read again.",
  },
  KAFKA_TRANSACTION_HANGS: {
    by: "cdc",
    verdict: RETRY,
    means:
      "What cdc has committed to <prefix>.signals or <prefix>.schemas cannot be read: a transaction that another producer began there was never ended (Kafka 4 forgets the end of one when its partition has no leader just then, KAFKA-20734; cdc writes again and so ends its own).",
    cure: "Find it with kafka-transactions.sh find-hanging, and end it with kafka-transactions.sh abort. It is tried again for ever.",
  },
  TOPIC_COMPACTED: {
    by: "cdc",
    verdict: REFUSE,
    means: "A table's topic is compacted: changes would be forgotten.",
    cure: "Set its cleanup.policy to delete.",
  },
  TOPIC_COMPRESSION: {
    by: "cdc",
    verdict: REFUSE,
    means: "A topic is set to a compression that routers cannot read.",
    cure: "Set its compression.type to producer, gzip or zstd.",
  },
  TOPIC_PARTITIONS: {
    by: "cdc",
    verdict: REFUSE,
    means: "A table's topic has fewer partitions than its rows were divided over.",
    cure: "Make it anew as the advice says.",
  },
  SPECIAL_NUMBER_LOST: {
    by: "cdc",
    verdict: REFUSE,
    means: "wal2json before 2.6 sends NaN and infinities as null, and here nothing tells which it was.",
    cure: "Install wal2json 2.6, or do as the advice says.",
  },
  NUMBER_LOOKUP_TIMEOUT: {
    by: "cdc",
    verdict: RETRY,
    means: "Looking up numbers that wal2json before 2.6 does not send took too long.",
    cure: "Give the table a key or an index, or install wal2json 2.6.",
  },
  COMMIT_NOT_VISIBLE: {
    by: "cdc",
    verdict: RETRY,
    means: "A transaction that the stream brought is not visible to queries yet (it may wait for a standby).",
    cure: "Nothing to do when the standby answers; else look at synchronous_standby_names.",
  },
  SNAPSHOT_QUERY_REFUSED: {
    by: "cdc",
    verdict: STOP,
    means: "main-db refuses the query of a copy: a condition that is wrong, or does what it must not.",
    cure: "Correct `where`, `from` and `to` of the request.",
  },
  MALFORMED_REQUEST: {
    by: "cdc",
    verdict: STOP,
    means: "A request for a copy is not as it must be; nothing is copied.",
    cure: "Write another one, with another key.",
  },
  TABLE_GONE: {
    by: "cdc",
    verdict: STOP,
    means: "The table to be copied was dropped, or is not captured any more.",
    cure: "Ask again for what is there.",
  },

  // shard-router
  WAITING: {
    by: "shard-router",
    verdict: RETRY,
    means: "Rows of another topic come first: the table was renamed, or a schema has not arrived.",
    cure: "Nothing to do while that topic goes on; look at it if it is held.",
  },
  FENCED: {
    by: "shard-router",
    verdict: RETRY,
    means: "Another router has moved the partition's progress, or its table.",
    cure: "Nothing to do: this one goes on from the replica's progress.",
  },
  GROUP_OF_ANOTHER_REPLICA: {
    by: "shard-router",
    verdict: REFUSE,
    means: "A router with the same REPLICA_NAME writes to another replica.",
    cure: "Give one of them another REPLICA_NAME.",
  },
  OFFSET_BELOW_RETENTION: {
    by: "shard-router",
    verdict: STOP,
    means: "Kafka no longer holds what the replica needs next.",
    cure: "Nothing to do where the schema is known: the router asks for a copy by itself; else copy the table.",
  },
  OFFSET_ABOVE_LOG: {
    by: "shard-router",
    verdict: STOP,
    means: "The topic ends before what the replica has applied: it was made anew, or Kafka has lost its end.",
    cure: "Nothing to do where the schema is known: the router asks for a copy by itself; else copy the table.",
  },
  MALFORMED_MESSAGE: {
    by: "shard-router",
    verdict: STOP,
    means: "A message of a table's topic is not a change event.",
    cure: "Find out who wrote it; the message names its place.",
  },
  MALFORMED_EVENT: {
    by: "shard-router",
    verdict: STOP,
    means: "A change event does not fit the schema that it names.",
    cure: "Find out who wrote it; the message names what does not fit.",
  },
  UNKNOWN_SCHEMA: {
    by: "shard-router",
    verdict: STOP,
    means: "An event names a schema that <prefix>.schemas does not have.",
    cure: "Let cdc publish it again, or restore the topic.",
  },
  MISSING_ROW: {
    by: "shard-router",
    verdict: STOP,
    means: "A change is for a row that the replica does not have: somebody else has changed it.",
    cure: "Mend the row, or copy the table to this replica.",
  },
  SHARD_KEY: {
    by: "shard-router",
    verdict: STOP,
    means: "A table cannot be divided by what ROUTER_SHARD_KEYS says of it, or has no key to be divided by.",
    cure: "Name columns of its key, of a type that the message allows, or * for all of it on every shard; other columns need REPLICA IDENTITY FULL on main-db.",
  },
  SHARD_CHANGED: {
    by: "shard-router",
    verdict: REFUSE,
    means: "ROUTER_SHARD and ROUTER_SHARD_KEYS say something else than before of tables that the replica has.",
    cure: "Set them as they were for these tables, or give the other part a replica of its own; to divide a shard further: docs/sharding.md, Divide anew.",
  },
  RESHARD_REFUSED: {
    by: "shard-router",
    verdict: REFUSE,
    means:
      "The reshard command was asked for a part that the replica cannot take, or that does not fit together with those beside it.",
    cure: "Nothing was changed. Choose a part of what the replica holds, and name all replicas that take over the rest.",
  },
  RESHARD_WAITING: {
    by: "shard-router",
    verdict: RETRY,
    means: "The reshard command gave up waiting for the replicas beside it (--timeout).",
    cure: "Nothing was changed. See to what it waits for, and run it again.",
  },
  RESHARD_STRAY_ROWS: {
    by: "shard-router",
    verdict: FATAL,
    means: "A table that is being divided further has rows that were not the replica's before either.",
    cure: "Delete what somebody else has put there, and run the command again.",
  },
  UNSUPPORTED_VALUE: {
    by: "shard-router",
    verdict: STOP,
    means: "A column of the replica cannot hold a value exactly.",
    cure: "Give the column the source's type, or a wider one; the table goes on by itself.",
  },
  UNSUPPORTED_TABLE: {
    by: "shard-router",
    verdict: STOP,
    means: "The engine cannot have a table like it.",
    cure: "Make one that fits by hand, or exclude it (ROUTER_TABLES).",
  },
  CONSTRAINT_VIOLATED: {
    by: "shard-router",
    verdict: STOP,
    means: "A constraint of the replica's own refuses a row.",
    cure: "Drop the constraint, or mend the rows that it names; the table goes on by itself.",
  },
  TOO_MANY_HELD_KEYS: {
    by: "shard-router",
    verdict: STOP,
    means: "ROUTER_MAX_HELD_KEYS keys of a table are held back already: it is the table that is refused, not a row.",
    cure: "Mend the cause that the message names, and replay what is held; the table goes on by itself.",
  },
  HELD_KEY_CHANGED: {
    by: "shard-router",
    verdict: STOP,
    means: "A table's key changed while keys of before are held back.",
    cure: 'Replay or discard them (README, "Rows that a replica refuses"); the table goes on by itself.',
  },
  HELD_ROW_UNKNOWN: {
    by: "shard-router",
    verdict: STOP,
    means: "A replay lacks what a row was before: it came from a key that is not held back.",
    cure: "Discard the key, and copy its row again.",
  },
  DEAD_LETTERS_LOST: {
    by: "shard-router",
    verdict: STOP,
    means: "Changes that are held back are no longer in the dead letters' topic.",
    cure: "Discard the keys, and copy their rows again.",
  },
  REPLICA_FUNCTION_FAILED: {
    by: "shard-router",
    verdict: STOP,
    means: "A function or trigger of the replica's own raised an error.",
    cure: "Mend or drop it; the table goes on by itself.",
  },
  REPLICA_TABLE_MISMATCH: {
    by: "shard-router",
    verdict: STOP,
    means: "The replica's table is not as main-db's, and the router may not, or cannot, change it.",
    cure: "Run the SQL in the advice; the table goes on by itself.",
  },
  REPLICA_TABLE_LOST: {
    by: "shard-router",
    verdict: STOP,
    means: "The replica's table is gone, with rows that were applied.",
    cure: "Restore it, or have it copied anew as the advice says.",
  },
  REPLICA_TABLE_IN_USE: {
    by: "shard-router",
    verdict: STOP,
    means: "A view or the like of the replica's own depends on what has to change.",
    cure: "Drop it, and make it again afterwards.",
  },
  REPLICA_NAME_TAKEN: {
    by: "shard-router",
    verdict: STOP,
    means: "Another table of the replica has the name.",
    cure: "Rename or drop that one, or give this replica a database of its own.",
  },
  REPLICA_CHANGE_REFUSED: {
    by: "shard-router",
    verdict: STOP,
    means: "A schema change would lose or guess values on this engine.",
    cure: "Do what the advice says; the table goes on by itself.",
  },
  REPLICA_RIGHT_MISSING: {
    by: "shard-router",
    verdict: STOP,
    means: "The replica's role lacks a right.",
    cure: "Grant it; the table goes on by itself.",
  },
  REPLICA_LOCKED: {
    by: "shard-router",
    verdict: ["stop-table", "retry"],
    means: "Another session holds a lock: on the table, or (SQLite, DuckDB) on the file.",
    cure: "End that transaction; it is tried again.",
  },
  REPLICA_TIMEOUT: {
    by: "shard-router",
    verdict: STOP,
    means: "A statement took longer than 120 s, or was cancelled.",
    cure: "See what else the replica is busy with; it is tried again with fewer rows.",
  },
  REPLICA_CONFLICT: {
    by: "shard-router",
    verdict: RETRY,
    means: "A deadlock, or another transaction was first.",
    cure: "Nothing to do: it is tried again.",
  },
  REPLICA_FULL: {
    by: "shard-router",
    verdict: ["retry", "stop-table"],
    means: "The replica has no room: disk, memory, connections.",
    cure: "Make room; it is tried again.",
  },
  REPLICA_READ_ONLY: {
    by: "shard-router",
    verdict: RETRY,
    means: "The replica takes no writes: a standby, or set so.",
    cure: "Let REPLICA_URL lead to the primary; it is tried again.",
  },
  REPLICA_UNAVAILABLE: {
    by: "shard-router",
    verdict: RETRY,
    means: "The replica does not answer, or its file cannot be read.",
    cure: "Look at its server, its disk and the network; it is tried again for ever.",
  },
  REPLICA_LOGIN_REFUSED: {
    by: "shard-router",
    verdict: REFUSE,
    means: "The replica refuses user, password or database.",
    cure: "Correct REPLICA_URL.",
  },
  REPLICA_TLS: {
    by: "shard-router",
    verdict: REFUSE,
    means: "No encrypted connection to the replica.",
    cure: "Check the certificates and REPLICA_URL's parameters.",
  },
  REPLICA_TOO_OLD: {
    by: "shard-router",
    verdict: REFUSE,
    means: "The replica's server is older than Cascade supports.",
    cure: "Upgrade it.",
  },
  REPLICA_CANNOT_OPEN: {
    by: "shard-router",
    verdict: REFUSE,
    means: "The file of REPLICA_URL cannot be opened, or is no database.",
    cure: "Check the folder, the file and their rights.",
  },
  REPLICA_CLIENT_MISSING: {
    by: "shard-router",
    verdict: REFUSE,
    means: "DuckDB's client is not installed.",
    cure: "Install it as the advice says.",
  },
  REPLICA_DAMAGED: {
    by: "shard-router",
    verdict: FATAL,
    means: "The replica reports damaged data.",
    cure: "Look at it before anything else writes to it; move a file away, and the replica is filled anew.",
  },
  REPLICA_ERROR: {
    by: "shard-router",
    verdict: STOP,
    means: "The replica refused something with a code that has no meaning of its own here.",
    cure: "Look the code up; the table is tried again.",
  },
} as const satisfies Readonly<Record<string, ErrorCodeEntry>>;

export type ErrorCode = keyof typeof ERROR_CODES;
