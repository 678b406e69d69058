import { mysqlFamily } from "./mysql.ts";

/** As MySQL, but for the name of its exact collation, and no name for the new row. */
export const mariadbDialect = mysqlFamily({
  name: "mariadb",
  collation: "utf8mb4_nopad_bin",
  newRowAlias: "",
  newValue: (column) => `VALUES(${column})`,
});
