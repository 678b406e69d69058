/** A row of the bench's table, as the server's own text of each value. */
export interface BenchRow {
  readonly id: string;
  readonly customerId: string;
  readonly status: string;
  readonly amount: string;
  readonly createdAt: string;
  readonly paid: boolean;
  readonly note: string;
}

/** What `CALL fill` writes from `first` on, but for its clock. */
export function benchRows(first: number, count: number): readonly BenchRow[] {
  return Array.from({ length: count }, (_, at) => {
    const id = first + at;
    return {
      id: String(id),
      customerId: String(id % 5_000),
      status: id % 3 === 0 ? "shipped" : "new",
      amount: ((id % 100_000) / 100).toFixed(2),
      createdAt: "2026-11-28 12:00:00.000000",
      paid: id % 2 === 0,
      note: md5(id) + md5(id + 1) + md5(id + 2) + md5(id + 3),
    };
  });
}

const md5 = (id: number): string => new Bun.CryptoHasher("md5").update(String(id)).digest("hex");
