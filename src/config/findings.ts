/** What a configuration asks for that is not there: keys that nobody knows, options without effect or support. */
import { z } from "zod";
import type { UnknownKey } from "./decode.ts";
import type { ConfigFile } from "./file.ts";
import { describeUnknown, type Origin } from "./origin.ts";
import type { PluginConfig } from "./plugins.ts";
import { factsOf, inner, type OptionFacts, optionsOf } from "./schema.ts";

export interface Findings {
  /** Unknown keys that SPIRE refuses, by section. */
  readonly refusedKeys: readonly RefusedKeys[];
  /** One sentence each, with its place: keys that are ignored, options without effect. */
  readonly warnings: readonly string[];
  /** One sentence each, with its place: what the program can't do yet, and doesn't start with. */
  readonly notYet: readonly string[];
}

export interface RefusedKeys {
  readonly section: string;
  /** Sorted, as SPIRE logs them. */
  readonly keys: readonly string[];
  /** One sentence each, with its place. */
  readonly sentences: readonly string[];
}

export function findingsOf(schema: z.ZodType, file: ConfigFile<unknown>): Findings {
  const { origin, plugins = [] } = file;
  const warnings: string[] = [];
  const notYet: string[] = [];
  const collect = (path: string, place: string, facts: OptionFacts, value: unknown): boolean => {
    if (facts.notYet !== undefined && isAsked(value, facts)) {
      notYet.push(`${place}: ${path} is not supported yet (${facts.notYet})`);
      return false;
    }
    if (facts.noEffect !== undefined && isAsked(value, facts)) {
      warnings.push(`${place}: ${path} has no effect: ${facts.noEffect}`);
      return false;
    }
    return true;
  };
  const ignored = file.unknown.filter(({ treatment }) => treatment === "ignore");
  warnings.push(...ignored.map((key) => sentence(origin, key)));
  walk(schema, file.raw, "", (path, facts, value) => collect(path, origin.placeOf(path), facts, value));
  for (const plugin of plugins.filter(({ enabled }) => enabled)) {
    collectPlugin(plugin, origin, { warnings, notYet, collect });
  }
  return { refusedKeys: refusedBySection(file.unknown, origin), warnings, notYet };
}

/** Called for each option and section that is given; false ends the descent. */
type Visit = (path: string, facts: OptionFacts, value: unknown) => boolean;

function walk(schema: z.ZodType, value: unknown, path: string, visit: Visit): void {
  if (typeof value !== "object" || value === null) return;
  for (const [name, option] of Object.entries(optionsOf(schema))) {
    const below = (value as Record<string, unknown>)[name];
    if (below === undefined) continue;
    const at = path === "" ? name : `${path}.${name}`;
    const facts = factsOf(option);
    if (facts && visit(at, facts, below) && inner(option) instanceof z.ZodObject)
      walk(option, below, at, visit);
  }
}

/** Whether somebody wants something that isn't so by itself. */
function isAsked(value: unknown, { off, default: initial }: OptionFacts): boolean {
  if (value === false || value === "" || value === 0 || value === off) return value === false && off === true;
  if (Array.isArray(value)) return value.length > 0;
  return typeof value === "object" || String(value) !== initial;
}

interface Collector {
  readonly warnings: string[];
  readonly notYet: string[];
  readonly collect: (path: string, place: string, facts: OptionFacts, value: unknown) => boolean;
}

function collectPlugin(plugin: PluginConfig, origin: Origin, { warnings, notYet, collect }: Collector): void {
  const { facts, data, kind, name } = plugin;
  const label = `${kind} "${name}"`;
  const place = origin.place(plugin.position);
  if (plugin.command !== undefined) notYet.push(`${place}: ${label} is not supported yet (external plugins)`);
  else if (facts && !facts.here) notYet.push(`${place}: ${label} is not supported yet`);
  if (!facts) return;
  if (facts.unknownKeys !== "refuse") {
    for (const key of data.unknown) warnings.push(sentence(origin, { ...key, section: label }));
  }
  if (!facts.here) return;
  const missing = facts.notYet?.(data.value);
  if (missing !== undefined) notYet.push(`${place}: ${label} with ${missing} is not supported yet`);
  walk(facts.options, data.value, "", (path, option, value) => {
    const position = data.places.get(path) ?? plugin.position;
    return collect(`${path} of ${label}`, origin.place(position), option, value);
  });
}

const sentence = (origin: Origin, key: UnknownKey): string =>
  `${origin.place(key.position)}: ${describeUnknown(key)}`;

function refusedBySection(unknown: readonly UnknownKey[], origin: Origin): readonly RefusedKeys[] {
  const refused = unknown.filter(({ treatment }) => treatment === "refuse");
  const sections = [...new Set(refused.map(({ section }) => section))];
  return sections.map((section) => {
    const keys = refused.filter((key) => key.section === section);
    return {
      section,
      keys: keys.map(({ name }) => name).sort(),
      sentences: keys.map((key) => sentence(origin, key)),
    };
  });
}
