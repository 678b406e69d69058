import type { WireRow } from "@cascade/shared/change-event";

/** An intended row change. Rows hold wire values by source column name. */
export type Mutation =
  /** The row with this key is now exactly `row` (every column of the schema), whether it was there or not. */
  | { readonly kind: "put"; readonly row: WireRow }
  /** The row with the key in `row` gets these columns; columns that `row` lacks keep their value (unchanged TOAST). The row must exist. */
  | { readonly kind: "patch"; readonly row: WireRow }
  /** No row has this key any more. `key` holds the key columns. */
  | { readonly kind: "delete"; readonly key: WireRow }
  /** The row with key `from` gets the columns of `row`, among them a new key; columns that `row` lacks keep their value. It must exist. */
  | { readonly kind: "move"; readonly from: WireRow; readonly row: WireRow }
  | { readonly kind: "truncate" }
  /** Tables without a key: one more row; one row exactly equal to `row` fewer (it must exist). */
  | { readonly kind: "append"; readonly row: WireRow }
  | { readonly kind: "remove"; readonly row: WireRow };
