/** Text in any of the notations > tree. */
import { parseHcl } from "./hcl.ts";
import { parseJson } from "./json.ts";
import type { Block } from "./tree.ts";
import { parseYaml } from "./yaml.ts";

export type Notation = "hcl" | "json" | "yaml";

/** By the file's name; HCL and JSON are told apart by the first character, as SPIRE does, whatever the name. */
export function notationOf(path: string, text: string): Notation {
  if (/\.ya?ml$/i.test(path)) return "yaml";
  return /^\s*\{/.test(text) ? "json" : "hcl";
}

const parsers: Readonly<Record<Notation, (text: string) => Block>> = {
  hcl: parseHcl,
  json: parseJson,
  yaml: parseYaml,
};

/** @throws ConfigSyntaxError. */
export const parseText = (text: string, notation: Notation): Block => parsers[notation](text);
