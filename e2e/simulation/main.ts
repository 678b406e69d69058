import { runHistory } from "./history.ts";
const seed = Number(process.argv[2] ?? 1); const n = Number(process.argv[3] ?? 1); const trace = process.argv[4] === "trace";
process.on("unhandledRejection", (e) => console.log("UNHANDLED", seed, e));
const t = performance.now(); let bad = 0; const seeds: number[] = []; const kinds = new Map<string, number>(); let commits=0, fenced=0, virtual=0;
for (let i = 0; i < n; i++) {
  const r = runHistory({ seed: seed + i, trace });
  await new Promise((r) => setImmediate(r));
  commits += r.figures.commits; fenced += r.figures.fenced; virtual += r.figures.virtualMs;
  if (r.failure !== null) { bad++; seeds.push(seed+i); const k = r.failure.split("\n")[0]!.slice(0, 90); kinds.set(k, (kinds.get(k) ?? 0) + 1); if (n === 1) { if (trace) console.log(r.trace.join("\n")); console.log(r.failure); } }
  if (n === 1) console.log(r.digest, r.figures);
}
console.log(n, "histories", bad, "failed", ((performance.now() - t) / n).toFixed(2), "ms each", {commits, fenced, virtual}, seeds.slice(0, 12), [...kinds].sort((a,b)=>b[1]-a[1]).slice(0,12));
process.exit(0);
