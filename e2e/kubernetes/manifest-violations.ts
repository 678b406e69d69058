import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
import { Deployment } from "kubernetes-models/apps/v1/Deployment";
import { StatefulSet } from "kubernetes-models/apps/v1/StatefulSet";
import { NetworkPolicy } from "kubernetes-models/networking.k8s.io/v1/NetworkPolicy";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1/PodDisruptionBudget";
import { ConfigMap } from "kubernetes-models/v1/ConfigMap";
import { Namespace } from "kubernetes-models/v1/Namespace";
import { Secret } from "kubernetes-models/v1/Secret";
import { Service } from "kubernetes-models/v1/Service";

/** What the API server would refuse, and what it would drop: the schemas that it has itself, applied strictly. */

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
}

type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };

const KINDS = [
  ConfigMap,
  Deployment,
  Namespace,
  NetworkPolicy,
  PodDisruptionBudget,
  PrometheusRule,
  Secret,
  Service,
  ServiceMonitor,
  StatefulSet,
];

/** The API's schemas say "string" where only some words do. By the last names of a path, without the numbers of lists. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  "capabilities/drop": ["ALL"],
  "seccompProfile/type": ["RuntimeDefault", "Localhost", "Unconfined"],
  "securityContext/fsGroupChangePolicy": ["OnRootMismatch", "Always"],
  "spec/accessModes": ["ReadWriteOnce", "ReadWriteOncePod", "ReadOnlyMany", "ReadWriteMany"],
  "spec/clusterIP": ["None"],
  "spec/podManagementPolicy": ["OrderedReady", "Parallel"],
  "spec/policyTypes": ["Ingress", "Egress"],
  "spec/unhealthyPodEvictionPolicy": ["IfHealthyBudget", "AlwaysAllow"],
  "topologySpreadConstraints/nodeTaintsPolicy": ["Honor", "Ignore"],
  "topologySpreadConstraints/whenUnsatisfiable": ["DoNotSchedule", "ScheduleAnyway"],
};
/** So a word that this table does not know is noticed too. */
const LIKE_A_WORD = /^[A-Z][A-Za-z]+$/;
/** Where texts are anybody's own. */
const FREE = /^\/(?:kind$|data\/|stringData\/|spec\/groups\/)/;

/** Each with its path; empty when the manifest is right. */
export function violations(manifest: Manifest): readonly string[] {
  const model = KINDS.find(({ apiVersion, kind }) => apiVersion === manifest.apiVersion && kind === manifest.kind);
  if (model === undefined) return [`${manifest.apiVersion} ${manifest.kind} is no kind that this knows`];
  const found: string[] = [];
  const { seen, unread } = watched(manifest as unknown as Json, "");
  try {
    model.prototype.validate.call(seen as never);
  } catch (error) {
    found.push((error as Error).message);
  }
  return [...found, ...unread().map((path) => `${path} is no field`), ...unknownWords(manifest as unknown as Json, "")];
}

interface Watched {
  readonly seen: unknown;
  /** Paths that nobody has read. */
  readonly unread: () => readonly string[];
}

/**
 * The validators are compiled from schemas that allow fields they do not name. But they read every field that they name, and every one of a map;
 * so what they never read is one that the schema does not have.
 */
function watched(value: Json, path: string): Watched {
  if (typeof value !== "object" || value === null) return { seen: value, unread: () => [] };
  const within = Object.entries(value).map(([name, child]) => [name, watched(child as Json, `${path}/${name}`)] as const);
  const plain = within.map(([name, { seen }]) => [name, seen] as const);
  const copy: object = Array.isArray(value) ? plain.map(([, seen]) => seen) : Object.fromEntries(plain);
  const read = new Set<PropertyKey>();
  const seen = new Proxy(copy, {
    get: (target, name, receiver) => {
      read.add(name);
      return Reflect.get(target, name, receiver);
    },
  });
  const unread = () => within.flatMap(([name, child]) => (read.has(name) ? child.unread() : [`${path}/${name}`]));
  return { seen, unread };
}

function unknownWords(value: Json, path: string): readonly string[] {
  if (FREE.test(path)) return [];
  if (typeof value === "object" && value !== null)
    return Object.entries(value).flatMap(([name, child]) => unknownWords(child as Json, `${path}/${name}`));
  const place = path.replaceAll(/\/\d+/g, "").split("/").slice(-2).join("/");
  const words = WORDS[place];
  if (words === undefined ? !LIKE_A_WORD.test(String(value)) : words.includes(String(value))) return [];
  return [`${path} is ${JSON.stringify(value)}; allowed: ${words?.join(", ") ?? "what a new line of WORDS says"}`];
}
