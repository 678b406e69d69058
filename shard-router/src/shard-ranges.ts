/** What ROUTER_SHARD_KEYS says of numbers and times, in the form that rows have them in; and their order. Pure. */

export type BoundKind = "number" | "date" | "time";

/** One end of a range, or a listed number or time. */
export interface Bound {
  readonly kind: BoundKind;
  /** As PostgreSQL writes such a value: numbers without zeros that say nothing, times in UTC and without their zone. */
  readonly text: string;
  /** A zone was given. */
  readonly zoned: boolean;
}

const DECIMAL = /^-?\d+(?:\.\d+)?$/;
const TIME = /^(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?(Z|([+-])([01]\d)(?::?([0-5]\d))?)?)?$/i;

/** null: it is neither a number nor a date or time that there is. */
export function parseBound(text: string): Bound | null {
  if (DECIMAL.test(text)) return { kind: "number", text: canonicalNumber(text), zoned: false };
  const match = TIME.exec(text);
  if (match === null) return null;
  const [, date = "", minute = "00:00", second = "00", fraction = "", zone, sign, hours = "0", minutes = "0"] = match;
  const iso = `${date}T${minute}:${second}`;
  const given = new Date(`${iso}Z`);
  // The 31st of February is another day, to some engines.
  if (Number.isNaN(given.getTime()) || !given.toISOString().startsWith(iso)) return null;
  if (match[2] === undefined) return { kind: "date", text: date, zoned: false };
  const aheadMinutes = (Number(hours) * 60 + Number(minutes)) * (sign === "-" ? -1 : 1);
  const utc = new Date(given.getTime() - aheadMinutes * 60_000).toISOString().slice(0, 19).replace("T", " ");
  if (!/^\d{4}-/.test(utc)) return null; // another millennium by its zone, which is written otherwise
  const digits = fraction.replace(/0+$/, "");
  return { kind: "time", text: digits === "" ? utc : `${utc}.${digits}`, zoned: zone !== undefined };
}

/** Without zeros that say nothing. */
export function canonicalNumber(text: string): string {
  const { whole, fraction } = parts(text);
  const digits = fraction === "" ? whole : `${whole}.${fraction}`;
  return text.startsWith("-") && digits !== "0" ? `-${digits}` : digits;
}

/** Of decimals of any length. */
export function compareNumbers(one: string, other: string): number {
  const negative = one.startsWith("-");
  if (negative !== other.startsWith("-")) return isZero(one) && isZero(other) ? 0 : negative ? -1 : 1;
  const [a, b] = [parts(one), parts(other)];
  const size = a.whole.length - b.whole.length || compareTexts(a.whole, b.whole) || compareTexts(a.fraction, b.fraction);
  return negative ? 0 - size : size;
}

const isZero = (text: string): boolean => /^-?0+(?:\.0+)?$/.test(text);

function parts(text: string): { readonly whole: string; readonly fraction: string } {
  const [whole = "", fraction = ""] = text.replace("-", "").split(".");
  return { whole: whole.replace(/^0+(?=\d)/, ""), fraction: fraction.replace(/0+$/, "") };
}

/** ISO texts of the same form order as their values do. */
const compareTexts = (one: string, other: string): number => (one < other ? -1 : Number(one > other));

/** After every time of its day, and before the next day. */
const endOf = ({ kind, text }: Bound): string => (kind === "date" ? `${text}~` : text);

/** No value is in it. Both ends are of one kind, or of days and times. */
export const isEmptyRange = (from: Bound, to: Bound): boolean =>
  from.kind === "number" ? compareNumbers(from.text, to.text) > 0 : compareTexts(from.text, endOf(to)) > 0;

/** Of a value's text: NaN and the infinities are between no numbers. */
export function betweenNumbers(from: Bound | null, to: Bound | null): (text: string) => boolean {
  const [first, last] = [from?.text ?? null, to?.text ?? null];
  return (text) =>
    DECIMAL.test(text) &&
    (first === null || compareNumbers(text, first) >= 0) &&
    (last === null || compareNumbers(text, last) <= 0);
}

/** Of a date's or timestamp's text: years that are not written with four digits, those before Christ and the infinities are between none. */
export function betweenTimes(from: Bound | null, to: Bound | null): (text: string) => boolean {
  const [first, last] = [from?.text ?? null, to === null ? null : endOf(to)];
  return (text) => {
    if (text[4] !== "-" || text.endsWith("BC")) return false;
    const time = text.endsWith("+00") ? text.slice(0, -3) : text;
    return (first === null || compareTexts(time, first) >= 0) && (last === null || compareTexts(time, last) <= 0);
  };
}
