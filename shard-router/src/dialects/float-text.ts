import { PG_TYPE } from "../row-shape.ts";

/** Shortest digits as JavaScript finds them too, but with an exponent where and how PostgreSQL writes one. */
export function floatText(value: number, typeOid: number): string {
  if (Object.is(value, -0)) return "-0";
  const [digits, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < (typeOid === PG_TYPE.float4 ? 6 : 15)) return String(value);
  return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}
