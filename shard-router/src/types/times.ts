import { asText, same, type TypeRow } from "./type-row.ts";

export const TIMES: readonly TypeRow[] = [
  {
    group: "Dates and times",
    types: { date: 1082 },
    columns: { postgres: same, mysql: "VARCHAR(32)", sqlite: "TEXT", duckdb: "DATE" },
    literals: ["2026-11-22", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01", "99999-12-31"],
    note: "as text on MySQL and MariaDB, whose DATE and DATETIME end with the year 9999 and know no infinity",
  },
  {
    group: "Dates and times",
    types: { "time without time zone": 1083, "time(3) without time zone": 1083 },
    columns: { postgres: same, mysql: "TIME(6)", sqlite: "TEXT", duckdb: "TIME" },
    literals: ["00:00:00", "24:00:00", "23:59:59.999", "12:30:00.5"],
  },
  {
    group: "Dates and times",
    types: { "time with time zone": 1266 },
    columns: asText,
    literals: ["12:00:00.5+13:45", "12:00:00-15:59:59", "24:00:00+00"],
  },
  {
    group: "Dates and times",
    types: { "timestamp without time zone": 1114, "timestamp(3) without time zone": 1114 },
    columns: { postgres: same, mysql: "VARCHAR(32)", sqlite: "TEXT", duckdb: "TIMESTAMP" },
    literals: [
      "2026-11-22 13:07:56.163",
      "infinity",
      "-infinity",
      "4713-01-01 00:00:00 BC",
      "0001-12-31 23:59:59.5 BC",
      "99999-12-31 00:00:00",
      "294276-12-31 23:59:59.999",
    ],
    refused: { duckdb: ["294276-12-31 23:59:59.999"] },
    note: "DuckDB's end on 10 January of the year 294247",
  },
  {
    group: "Dates and times",
    types: { "timestamp with time zone": 1184, "timestamp(3) with time zone": 1184 },
    columns: { postgres: same, mysql: "VARCHAR(35)", sqlite: "TEXT", duckdb: "TIMESTAMP WITH TIME ZONE" },
    literals: [
      "2026-11-22 13:07:56.163+05:30",
      "infinity",
      "-infinity",
      "0044-03-15 12:00:00+00 BC",
      "99999-12-31 00:00:00+00",
      "294276-12-31 00:00:00+00",
    ],
    refused: { duckdb: ["294276-12-31 00:00:00+00"] },
    note: "in UTC everywhere",
  },
  {
    group: "Dates and times",
    types: { interval: 1186, "interval day to second(3)": 1186 },
    columns: asText,
    literals: ["1 year -2 mons +3 days 04:05:06.789", "-1 days", "24:00:00", "0", "178000000 years"],
    note: "PostgreSQL's form, e.g. 1 year -2 mons +3 days 04:05:06.789",
  },
];
