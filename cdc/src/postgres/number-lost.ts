import { UnsupportedValueError } from "@cascade/shared/errors";
import { formatTableName, type TableName } from "@cascade/shared/topic";

/**
 * wal2json before 2.6 sent null where a NaN or an infinity may be, and main-db cannot be asked for it. `what` names the column, never a
 * value. Refused until someone mends it: nothing of the row was published.
 */
export function numberLost(table: TableName, what: string, cure = ""): UnsupportedValueError {
  return new UnsupportedValueError({
    code: "SPECIAL_NUMBER_LOST",
    verdict: "refuse",
    message: `${formatTableName(table)}: ${what}; wal2json before 2.6 sends NaN and infinities as null`,
    advice: `install wal2json 2.6 or newer on main-db (cdc uses it at once)${cure}; or exclude the table: CDC_TABLES=...,!${formatTableName(table)}`,
  });
}
