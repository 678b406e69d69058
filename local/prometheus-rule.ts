import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./paths.ts";

const ALERTS = "observability/alerts.yml";

const HEAD = `# Written by \`npm run docs\` from ${ALERTS}: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: cascade
spec:
`;

/** The alerts as the Prometheus operator takes them: what stands under `spec` is the file that Prometheus itself reads. */
export function prometheusRule(): string {
  return HEAD + readFileSync(join(repository, ALERTS), "utf8").replace(/^(?=.)/gm, "  ");
}
