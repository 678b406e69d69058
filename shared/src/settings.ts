import { readFileSync } from "node:fs";
import { z } from "zod";
import { CascadeError } from "./errors.ts";

/** What a variable may hold: `schema` reads its text, `allowed` says in words what it takes. */
export interface Kind<T> {
  readonly schema: z.ZodType<T, string>;
  readonly allowed: string;
}

/** One environment variable. The README's table and the error messages come from here too. */
export interface Setting<T> {
  readonly kind: Kind<T>;
  readonly meaning: string;
  /** Text that stands for an unset variable: `null` is "none", `undefined` means that it must be set. */
  readonly default?: string | null;
  /** Never shown, not even when it is wrong. */
  readonly secret?: boolean;
  /** `<NAME>_FILE` may name a file that holds the value (container secrets). */
  readonly file?: boolean;
  /** Replaces the default in the documentation, where that depends on something else. */
  readonly shownDefault?: string;
}

// biome-ignore lint/suspicious/noExplicitAny: a table holds settings of every type; `Values` gives each its own back.
export type Settings = Readonly<Record<string, Setting<any>>>;

type ValueOf<S> = S extends Setting<infer T> ? (S extends { readonly default: null } ? T | null : T) : never;

/** What reading a table gives: each variable's value under its name. */
export type Values<S extends Settings> = { readonly [Name in keyof S]: ValueOf<S[Name]> };

export const text = (allowed: string, pattern = /^.+$/s): Kind<string> => ({ schema: z.string().regex(pattern), allowed });

export const integer = (min: number, max: number): Kind<number> => ({
  schema: z
    .string()
    .regex(/^-?\d{1,15}$/)
    .transform(Number)
    .pipe(z.number().min(min).max(max)),
  allowed: `an integer from ${min} to ${max}`,
});

export const flag: Kind<boolean> = {
  schema: z.enum(["true", "false"]).transform((value) => value === "true"),
  allowed: "true, false",
};

export const oneOf = <const Names extends readonly [string, ...string[]]>(...names: Names): Kind<Names[number]> => ({
  schema: z.enum(names),
  allowed: names.map((name) => `\`${name}\``).join(", "),
});

/** A value with a grammar of its own: `parse` throws SyntaxError with the reason. */
export const parsed = <T>(allowed: string, parse: (value: string) => T): Kind<T> => ({
  schema: z.string().transform((value, context) => {
    try {
      return parse(value);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      context.addIssue({ code: "custom", message: error.message });
      return z.NEVER;
    }
  }),
  allowed,
});

/** A name that the contract reserves: to ignore what its user meant would be worse than to refuse it. */
export const notYet = (what: string): Setting<null> & { readonly default: null } => ({
  kind: parsed<null>("nothing", () => {
    throw new SyntaxError(`${what} is not in this version`);
  }),
  default: null,
  meaning: `${what}; not in this version`,
});

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads every variable of the table. Throws CascadeError CONFIGURATION (verdict refuse) that names every variable that is wrong, what
 * it holds unless that is secret, and what it may hold. `check` adds what concerns several variables at once.
 */
export function readSettings<S extends Settings>(
  settings: S,
  environment: Environment,
  check: (values: Values<S>) => readonly string[] = () => [],
): Values<S> {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(settings)) {
    const read = readSetting(name, setting, environment);
    if ("problem" in read) problems.push(read.problem);
    else values[name] = read.value;
  }
  if (problems.length === 0) problems.push(...check(values as Values<S>));
  if (problems.length > 0) throw configurationError(problems);
  return values as Values<S>;
}

type Read = { readonly value: unknown } | { readonly problem: string };

function readSetting(name: string, setting: Setting<unknown>, environment: Environment): Read {
  const given = givenText(name, setting, environment);
  if ("problem" in given) return given;
  const value = given.text ?? setting.default;
  if (value === undefined)
    return {
      problem: `${name} is not set${setting.file ? ` (nor ${name}_FILE)` : ""}; it must be: ${setting.kind.allowed} (${setting.meaning})`,
    };
  if (value === null) return { value: null };
  const result = setting.kind.schema.safeParse(value);
  if (result.success) return { value: result.data };
  const shown = setting.secret ? "a value that is not shown" : JSON.stringify(value.slice(0, 200));
  const custom = result.error.issues.find((issue) => issue.code === "custom")?.message;
  return { problem: `${name} is ${shown}${custom ? ` (${custom})` : ""}; allowed: ${setting.kind.allowed}` };
}

/** An empty variable counts as unset: that is how compose files pass on what their user left out. */
function givenText(
  name: string,
  setting: Setting<unknown>,
  environment: Environment,
): { readonly text: string | undefined } | { readonly problem: string } {
  const own = environment[name] || undefined;
  const path = setting.file ? environment[`${name}_FILE`] || undefined : undefined;
  if (path === undefined) return { text: own };
  if (own !== undefined) return { problem: `${name} and ${name}_FILE are both set; set one of them` };
  try {
    return { text: readFileSync(path, "utf8").trim() || undefined };
  } catch (error) {
    return {
      problem: `${name}_FILE is ${JSON.stringify(path)}, which cannot be read (${(error as NodeJS.ErrnoException).code}); allowed: the path of a readable file`,
    };
  }
}

function configurationError(problems: readonly string[]): RefusalError {
  return new RefusalError(
    problems.map(
      (message) =>
        new CascadeError({
          code: "CONFIGURATION",
          verdict: "refuse",
          message,
          advice: "correct the environment and start again",
        }),
    ),
  );
}

/** Everything that keeps a service from starting, told at once so that the operator mends it in one go. */
export class RefusalError extends CascadeError {
  override readonly name = "RefusalError";
  readonly findings: readonly CascadeError[];

  constructor(findings: readonly CascadeError[]) {
    const list = (of: (finding: CascadeError) => string) =>
      findings.length === 1 ? findings.map(of).join("") : findings.map((finding, at) => `(${at + 1}) ${of(finding)}`).join("; ");
    super({
      code: findings.length === 1 ? (findings[0] as CascadeError).code : "REFUSED",
      verdict: "refuse",
      message: list(({ message }) => message),
      advice: list(({ advice }) => advice),
    });
    this.findings = findings;
  }
}

/** Variables that look like ours and are not: a typing error there would go unnoticed. */
export function unknownVariables(settings: Settings, environment: Environment, prefixes: readonly string[]): readonly string[] {
  const known = new Set(Object.entries(settings).flatMap(([name, { file }]) => (file ? [name, `${name}_FILE`] : [name])));
  return Object.keys(environment).filter((name) => prefixes.some((prefix) => name.startsWith(prefix)) && !known.has(name));
}
