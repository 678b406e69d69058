import { createHash } from "node:crypto";
import { COLUMNS_SQL, IDENTITIES_SQL, relationsSql } from "./catalog-sql.ts";
import { PINNED_SETTINGS } from "./session.ts";
import { DDL_PREFIX } from "./wal2json.ts";

/** The schema that holds everything cdc puts into main-db. */
export const DDL_SCHEMA = "cascade_cdc";
export const EVENT_TRIGGERS = ["cascade_cdc_command", "cascade_cdc_drop", "cascade_cdc_rewrite"] as const;

/** Relations of one tree in one message: what a message holds stays within some hundred kilobytes. */
const RELATIONS_PER_MESSAGE = 50;

/** Commands that can change what a row of a table looks like, or where it goes; all others pass without a call. */
const TAGS = [
  "ALTER DOMAIN",
  "ALTER EXTENSION",
  "ALTER INDEX", // may rename a table
  "ALTER SCHEMA",
  "ALTER TABLE",
  "ALTER TYPE",
  "CREATE EXTENSION",
  "CREATE SCHEMA",
  "CREATE TABLE",
  "CREATE TABLE AS",
  "SELECT INTO",
];

/** What a value in a message looks like must not depend on who runs the command. */
const PINNED = Object.entries(PINNED_SETTINGS)
  .filter(([name]) => name !== "statement_timeout")
  .map(([name, value]) => `SET ${name} TO '${value}'`)
  .join(" ");

const emit = (json: string): string => `pg_logical_emit_message(true, '${DDL_PREFIX}', (${json})::text)`;

/**
 * Ends what a function has written. PostgreSQL sorts the subtransactions of a transaction by LSN, and takes a message's from its end: where
 * a row outside the message's subtransaction follows at once, both have the same, and the row comes first. So something else follows.
 */
const PAD = "PERFORM pg_logical_emit_message(true, 'cascade.pad', '');";

const FUNCTIONS = `
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.columns(oid[]) RETURNS json LANGUAGE sql STABLE ${PINNED} AS $sql$
  SELECT coalesce(json_agg(x), '[]') FROM (${COLUMNS_SQL}) x $sql$;

CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.identities(oid[]) RETURNS json LANGUAGE sql STABLE ${PINNED} AS $sql$
  SELECT coalesce(json_agg(x), '[]') FROM (${IDENTITIES_SQL}) x $sql$;

-- Everything below these in a tree of partitions or of inheritance: a command names only what it was given.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.families(oid[]) RETURNS oid[] LANGUAGE sql STABLE SET search_path TO pg_catalog AS $sql$
  WITH RECURSIVE family(oid) AS (
    SELECT unnest($1) UNION SELECT i.inhrelid FROM family JOIN pg_inherits i ON i.inhparent = family.oid)
  SELECT array_agg(oid) FROM family $sql$;

-- What these relations look like now, at this place in the WAL. late: not from within the transaction that changed them.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.tell(oids oid[], late boolean) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER ${PINNED} AS $body$
DECLARE
  name text;
BEGIN
  -- Else a change that commits meanwhile would be told of before this, which does not see it.
  IF tell.late THEN
    FOR name IN SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid = ANY(tell.oids) AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.oid LOOP
      EXECUTE 'LOCK TABLE ONLY ' || name || ' IN ACCESS SHARE MODE';
    END LOOP;
  END IF;
  PERFORM ${emit(`json_build_object('v', 1, 'late', tell.late, 'relations', part.relations, 'columns', ${DDL_SCHEMA}.columns(part.oids), 'identities', ${DDL_SCHEMA}.identities(part.oids))`)}
     FROM (SELECT json_agg(json_build_object('kind', kind, 'oid', oid, 'root_oid', root_oid, 'schema', schema, 'table', "table", 'root_schema', root_schema, 'root_table', root_table, 'filled', kind IN ('table', 'partition') AND pg_relation_size(oid::oid::regclass) > 0)) AS relations,
                  array_agg(oid::oid) || min(root_oid)::oid AS oids
             FROM (SELECT *, (row_number() OVER (PARTITION BY root_oid ORDER BY oid <> root_oid, oid::oid) - 1) / ${RELATIONS_PER_MESSAGE} AS part
                     FROM (${relationsSql("c.oid = ANY(tell.oids)")}) found) numbered
            GROUP BY root_oid, part
            ORDER BY root_oid::oid, part) part;
  PERFORM ${emit("json_build_object('v', 1, 'late', tell.late, 'gone', gone.oids)")}
     FROM (SELECT json_agg(json_build_object('oid', o.oid::text, 'dropped', c.oid IS NULL)) AS oids
             FROM unnest(tell.oids) o(oid) LEFT JOIN pg_class c ON c.oid = o.oid
            WHERE c.oid IS NULL OR c.relkind IN ('r', 'p') AND c.relpersistence <> 'p') gone
    WHERE gone.oids IS NOT NULL;
  ${PAD}
END $body$;

-- Nobody's command fails because of us: cdc is told to look at the catalog instead.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.failed(error text) RETURNS void LANGUAGE plpgsql SET search_path TO pg_catalog AS $body$
BEGIN
  RAISE WARNING 'Cascade could not capture this schema change, and will look for it in the catalog: %', error;
  PERFORM ${emit("json_build_object('v', 1, 'look', true)")};
  ${PAD}
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'Cascade could not write to the WAL: %', SQLERRM;
END $body$;

CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.affected_by_types(types oid[]) RETURNS oid[] LANGUAGE sql STABLE SET search_path TO pg_catalog AS $sql$
  WITH RECURSIVE made(oid) AS (
    SELECT unnest($1)
    UNION
    SELECT t.oid FROM made JOIN pg_type t ON t.typbasetype = made.oid OR (t.typelem = made.oid AND t.typlen = -1)
        OR t.oid IN (SELECT rngtypid FROM pg_range WHERE rngsubtype = made.oid))
  SELECT array_agg(DISTINCT a.attrelid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
   WHERE a.atttypid IN (SELECT oid FROM made) AND a.attnum > 0 AND NOT a.attisdropped $sql$;

-- The relations that a command has changed, and what their change shows in.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.affected(relations oid[], types oid[], schemas oid[], extensions oid[]) RETURNS oid[]
  LANGUAGE plpgsql STABLE SET search_path TO pg_catalog AS $body$
DECLARE
  found oid[];
BEGIN
  SELECT array_agg(DISTINCT coalesce(i.indrelid, c.oid)) INTO found
    FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
   WHERE c.oid = ANY(relations) AND c.relkind IN ('r', 'p', 'i', 'I');
  -- A partition that was detached is not named: it is one of those this transaction has written anew.
  IF EXISTS (SELECT FROM pg_class WHERE oid = ANY(relations) AND relkind = 'p') THEN
    found := found || ARRAY(SELECT oid FROM pg_class WHERE age(xmin) <= 0 AND relkind IN ('r', 'p') AND NOT relispartition);
  END IF;
  IF schemas IS NOT NULL THEN
    found := found || ARRAY(SELECT oid FROM pg_class WHERE relnamespace = ANY(schemas) AND relkind IN ('r', 'p'));
    types := types || ARRAY(SELECT oid FROM pg_type WHERE typnamespace = ANY(schemas));
  END IF;
  IF extensions IS NOT NULL THEN
    types := types || ARRAY(SELECT objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid = ANY(extensions) AND classid = 'pg_type'::regclass);
  END IF;
  IF types IS NOT NULL THEN found := found || ${DDL_SCHEMA}.affected_by_types(types); END IF;
  RETURN ${DDL_SCHEMA}.families(found);
END $body$;

CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.on_command() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog AS $body$
DECLARE
  relations oid[]; types oid[]; schemas oid[]; extensions oid[]; found oid[];
BEGIN
  SELECT array_agg(objid) FILTER (WHERE classid = 'pg_class'::regclass), array_agg(objid) FILTER (WHERE classid = 'pg_type'::regclass),
         array_agg(objid) FILTER (WHERE classid = 'pg_namespace'::regclass), array_agg(objid) FILTER (WHERE classid = 'pg_extension'::regclass)
    INTO relations, types, schemas, extensions
    FROM pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp';
  -- Most temporary tables end here, before anything that costs a subtransaction.
  IF num_nulls(relations, types, schemas, extensions) = 4 THEN RETURN; END IF;
  BEGIN
    found := ${DDL_SCHEMA}.affected(relations, types, schemas, extensions);
    IF found IS NOT NULL THEN PERFORM ${DDL_SCHEMA}.tell(found, false); END IF;
  EXCEPTION WHEN OTHERS THEN
    PERFORM ${DDL_SCHEMA}.failed(SQLERRM);
  END;
END $body$;

CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.on_drop() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog AS $body$
DECLARE
  dropped json; altered oid[];
BEGIN
  IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects()
                  WHERE NOT is_temporary AND object_type IN ('table', 'table column', 'default value', 'index')) THEN RETURN; END IF;
  BEGIN
    SELECT json_agg(json_build_object('oid', objid::text, 'dropped', true)) FILTER (WHERE object_type = 'table'),
           array_agg(CASE object_type WHEN 'table column' THEN objid ELSE to_regclass(format('%I.%I', address_names[1], address_names[2]))::oid END)
             FILTER (WHERE object_type IN ('table column', 'default value') AND tg_tag <> 'ALTER TABLE')
      INTO dropped, altered
      FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary;
    IF dropped IS NOT NULL THEN
      PERFORM ${emit("json_build_object('v', 1, 'late', false, 'gone', dropped)")};
      ${PAD}
    END IF;
    IF tg_tag = 'DROP INDEX' THEN
      altered := ARRAY(SELECT oid FROM pg_class c WHERE relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident));
    END IF;
    -- Those that are gone themselves were told of.
    altered := ${DDL_SCHEMA}.families(ARRAY(SELECT c.oid FROM pg_class c WHERE c.oid = ANY(altered)));
    IF altered IS NOT NULL THEN PERFORM ${DDL_SCHEMA}.tell(altered, false); END IF;
  EXCEPTION WHEN OTHERS THEN
    PERFORM ${DDL_SCHEMA}.failed(SQLERRM);
  END;
END $body$;

-- Before the rows are written anew by a column's type (4) or by the values of a new column (2), which the WAL does not show.
CREATE OR REPLACE FUNCTION ${DDL_SCHEMA}.on_rewrite() RETURNS event_trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog AS $body$
BEGIN
  IF pg_event_trigger_table_rewrite_reason() & 6 = 0 THEN RETURN; END IF;
  PERFORM ${emit("json_build_object('v', 1, 'rewritten', (CASE WHEN relispartition THEN pg_partition_root(oid)::oid ELSE oid END)::text)")}
     FROM pg_class WHERE oid = pg_event_trigger_table_rewrite_oid() AND relpersistence = 'p';
EXCEPTION WHEN OTHERS THEN
  PERFORM ${DDL_SCHEMA}.failed(SQLERRM);
END $body$;
`;

const TRIGGERS: Readonly<Record<(typeof EVENT_TRIGGERS)[number], string>> = {
  cascade_cdc_command: `ON ddl_command_end WHEN TAG IN (${TAGS.map((tag) => `'${tag}'`).join(", ")}) EXECUTE FUNCTION ${DDL_SCHEMA}.on_command()`,
  cascade_cdc_drop: `ON sql_drop EXECUTE FUNCTION ${DDL_SCHEMA}.on_drop()`,
  cascade_cdc_rewrite: `ON table_rewrite EXECUTE FUNCTION ${DDL_SCHEMA}.on_rewrite()`,
};

/** Another one for another version: of the text of all of it. */
export const DDL_VERSION = createHash("sha256").update(FUNCTIONS).update(JSON.stringify(TRIGGERS)).digest("hex").slice(0, 16);
/** The schema's comment: how a cdc knows that what is installed is its own version. */
export const DDL_COMMENT = `Capture of schema changes by Cascade, version ${DDL_VERSION}; remove it with: DROP SCHEMA ${DDL_SCHEMA} CASCADE`;

/**
 * In one transaction. What is there already is replaced in place, never dropped: commands of others that are under way would fail.
 * ALWAYS: also for sessions with session_replication_role = replica.
 */
export const INSTALL_SQL: readonly string[] = [
  `CREATE SCHEMA IF NOT EXISTS ${DDL_SCHEMA}`,
  FUNCTIONS,
  // An event trigger's function is called without asking for it.
  `REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ${DDL_SCHEMA} FROM PUBLIC`,
  ...EVENT_TRIGGERS.flatMap((name) => [
    `DROP EVENT TRIGGER IF EXISTS ${name}`,
    `CREATE EVENT TRIGGER ${name} ${TRIGGERS[name]}`,
    `ALTER EVENT TRIGGER ${name} ENABLE ALWAYS`,
  ]),
  `COMMENT ON SCHEMA ${DDL_SCHEMA} IS '${DDL_COMMENT}'`,
];

export const UNINSTALL_SQL: readonly string[] = [
  ...EVENT_TRIGGERS.map((name) => `DROP EVENT TRIGGER IF EXISTS ${name}`),
  `DROP SCHEMA IF EXISTS ${DDL_SCHEMA} CASCADE`,
];
