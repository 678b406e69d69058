import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "./manifest-violations.ts";

/** As much of kustomize as deploy/kubernetes uses. What it does not know it refuses, so that nothing is passed over. */

interface Labelled {
  readonly labels?: Readonly<Record<string, string>>;
}

export interface PodTemplate {
  readonly metadata: Labelled;
  readonly spec: PodSpec;
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string | number };
  readonly exec?: { readonly command: readonly string[] };
}

export interface PodSpec {
  readonly containers: readonly {
    readonly name: string;
    readonly image: string;
    readonly env?: readonly { readonly name: string; readonly value: string }[];
    readonly envFrom?: readonly { readonly configMapRef: { readonly name: string } }[];
    readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
    readonly startupProbe: Probe;
    readonly livenessProbe: Probe;
    readonly readinessProbe: Probe;
    readonly resources: { readonly limits: { readonly memory: string } };
    readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
  }[];
  readonly volumes?: readonly {
    readonly name: string;
    readonly secret: { readonly secretName: string; readonly optional?: boolean };
  }[];
  readonly terminationGracePeriodSeconds: number;
}

export type Selector = { readonly matchLabels?: Readonly<Record<string, string>> } & Readonly<Record<string, unknown>>;

export interface Resource extends Manifest {
  readonly metadata: Labelled & { readonly name: string; readonly namespace?: string };
  readonly spec: {
    readonly template: PodTemplate;
    readonly selector: Selector;
    readonly podSelector: Selector;
    readonly ports: readonly { readonly name: string; readonly targetPort: string }[];
    readonly endpoints: readonly { readonly port: string }[];
    readonly ingress?: readonly { readonly ports: readonly { readonly port: string }[] }[];
    readonly serviceName?: string;
    readonly volumeClaimTemplates?: readonly { readonly metadata: Labelled & { readonly name: string } }[];
  };
  readonly data?: Readonly<Record<string, string>>;
  readonly stringData?: Readonly<Record<string, string>>;
}

interface Kustomization extends Manifest {
  readonly namespace: string;
  readonly resources: readonly string[];
  readonly configMapGenerator?: readonly { readonly name: string; readonly envs: readonly string[] }[];
  readonly images?: readonly { readonly name: string; readonly newName: string; readonly newTag: string }[];
  readonly labels: readonly { readonly pairs: Readonly<Record<string, string>>; readonly includeTemplates?: boolean }[];
}

const FIELDS: Readonly<Record<string, readonly string[]>> = {
  "": ["apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images", "labels"],
  configMapGenerator: ["name", "envs"],
  images: ["name", "newName", "newTag"],
  labels: ["pairs", "includeTemplates"],
};

export const documentsOf = (text: string): readonly Resource[] =>
  [Bun.YAML.parse(text)].flat().filter((document) => document !== null) as Resource[];

export const isWorkload = ({ kind }: Manifest): boolean => kind === "Deployment" || kind === "StatefulSet";

export function readKustomization(folder: string): Kustomization {
  const kustomization = Bun.YAML.parse(readFileSync(join(folder, "kustomization.yml"), "utf8")) as Kustomization;
  if (`${kustomization.apiVersion} ${kustomization.kind}` !== "kustomize.config.k8s.io/v1beta1 Kustomization")
    throw new Error(`${folder}/kustomization.yml is none`);
  checkFields("", kustomization);
  for (const list of ["configMapGenerator", "images", "labels"] as const)
    for (const entry of kustomization[list] ?? []) checkFields(list, entry);
  return kustomization;
}

function checkFields(where: string, value: object): void {
  const unknown = Object.keys(value).filter((name) => !FIELDS[where]?.includes(name));
  if (unknown.length > 0) throw new Error(`kustomization.yml: ${where} has ${unknown}, which this does not know`);
}

/** Files of the folder that neither kustomize reads nor an example is. */
export function unlisted(folder: string): readonly string[] {
  const { resources, configMapGenerator = [] } = readKustomization(folder);
  const listed = new Set(["kustomization.yml", ...resources, ...configMapGenerator.flatMap(({ envs }) => envs)]);
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !listed.has(entry.name))
    .map(({ name }) => name);
}

/** `NAME=value` lines. With `commented` also those that are only suggested. */
export function readEnvFile(file: string, commented = false): Readonly<Record<string, string>> {
  const lines = readFileSync(file, "utf8").split("\n");
  const pairs = lines.map((line) => (commented ? /^#?([A-Z_]+)=(.+)$/ : /^([A-Z_]+)=(.+)$/).exec(line));
  const wrong = lines.filter((line, at) => line !== "" && !line.startsWith("#") && pairs[at] === null);
  if (wrong.length > 0) throw new Error(`${file}: ${JSON.stringify(wrong)} is no NAME=value`);
  return Object.fromEntries(pairs.flatMap((match) => (match === null ? [] : [[match[1] ?? "", match[2] ?? ""]])));
}

/** What `kubectl apply -k` sends, but for the hash in the ConfigMap's name. `added`: texts of further files, as if they were listed. */
export function build(folder: string, added: readonly string[] = []): readonly Resource[] {
  const kustomization = readKustomization(folder);
  const missing = kustomization.resources.filter((name) => !existsSync(join(folder, name)));
  if (missing.length > 0) throw new Error(`${folder} has no ${missing}`);
  const texts = kustomization.resources.map((name) => readFileSync(join(folder, name), "utf8"));
  const generated = (kustomization.configMapGenerator ?? []).map(({ name, envs }) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name },
    data: Object.assign({}, ...envs.map((file) => readEnvFile(join(folder, file)))),
  }));
  return [...[...texts, ...added].flatMap(documentsOf), ...(generated as unknown as Resource[])].map((resource) =>
    transformed(resource, kustomization),
  );
}

function transformed(resource: Resource, { namespace, labels, images = [] }: Kustomization): Resource {
  const own = Object.assign({}, ...labels.map(({ pairs }) => pairs));
  const ofPods = Object.assign({}, ...labels.filter(({ includeTemplates }) => includeTemplates).map(({ pairs }) => pairs));
  const { template, volumeClaimTemplates } = resource.spec ?? {};
  const withOfPods = <T extends Labelled>(metadata: T): T => ({ ...metadata, labels: { ...metadata.labels, ...ofPods } });
  return {
    ...resource,
    metadata: {
      ...resource.metadata,
      ...(resource.kind === "Namespace" ? { name: namespace } : { namespace }),
      labels: { ...resource.metadata.labels, ...own },
    },
    ...(template === undefined
      ? {}
      : {
          spec: {
            ...resource.spec,
            ...(volumeClaimTemplates && {
              volumeClaimTemplates: volumeClaimTemplates.map((claim) => ({ ...claim, metadata: withOfPods(claim.metadata) })),
            }),
            template: {
              ...template,
              metadata: withOfPods(template.metadata),
              spec: {
                ...template.spec,
                containers: template.spec.containers.map((container) => {
                  const image = images.find(({ name }) => name === container.image);
                  return image === undefined ? container : { ...container, image: `${image.newName}:${image.newTag}` };
                }),
              },
            },
          },
        }),
  };
}
