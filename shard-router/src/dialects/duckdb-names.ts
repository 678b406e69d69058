/** Qualified and quoted names taken apart. */

/** The name's last part. */
export const nameIn = (sqlName: string): string => /"(?:[^"]|"")*"$/.exec(sqlName)?.[0] ?? sqlName;
export const schemaOf = (sqlName: string): string => sqlName.slice(0, -(nameIn(sqlName).length + 1));
