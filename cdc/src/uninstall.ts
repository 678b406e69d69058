import { CascadeError } from "@cascade/shared/errors";
import { EXIT } from "@cascade/shared/service";
import { readSettings } from "@cascade/shared/settings";
import { CDC_SETTINGS } from "./config.ts";
import { uninstallDdlCapture } from "./postgres/ddl-capture.ts";
import { openSession } from "./postgres/session.ts";

/** `bun run --cwd cdc uninstall`: takes the event triggers, all that cdc ever puts into main-db but its slot, out of CDC_DATABASE_URL. */
try {
  const { CDC_DATABASE_URL } = CDC_SETTINGS;
  const config = readSettings({ CDC_DATABASE_URL }, process.env);
  await using session = await openSession(config.CDC_DATABASE_URL);
  await uninstallDdlCapture(session.client);
  process.stdout.write(
    "cdc's event triggers and the schema cascade_cdc are gone from main-db (a cdc with CDC_DDL=auto installs them again)\n",
  );
} catch (error) {
  if (!(error instanceof CascadeError)) throw error;
  process.stderr.write(`${error.message}\n  cure: ${error.advice}\n`);
  process.exitCode = error.verdict === "refuse" ? EXIT.refused : EXIT.failed;
}
