/** Plain objects > HCL text, in the form that SPIRE's own examples have. */
import { z } from "zod";
import type { Plain } from "./convert.ts";
import { inner, optionsOf } from "./schema.ts";

type Members = { readonly [key: string]: Plain };

/** @param schema tells blocks that have names from blocks within blocks. */
export const printHcl = (value: Members, schema: z.ZodType): string => printMembers(value, schema, [], "");

function printMembers(
  value: Members,
  schema: z.ZodType | undefined,
  path: readonly string[],
  indent: string,
): string {
  const options = schema ? optionsOf(schema) : {};
  return Object.entries(value)
    .map(([name, member]) => printMember(name, member, options[name], [...path, name], indent))
    .join("");
}

function printMember(
  name: string,
  member: Plain,
  schema: z.ZodType | undefined,
  path: readonly string[],
  indent: string,
): string {
  const isPluginKind = path.length === 2 && path[0] === "plugins";
  const type = schema && inner(schema);
  if (isPluginKind || type instanceof z.ZodRecord) {
    const blocks = (Array.isArray(member) ? member : [member])
      .filter(isMembers)
      .flatMap(Object.entries<Plain>);
    return blocks
      .map(([title, below]) =>
        printBlock(`${key(name)} ${text(title)}`, isMembers(below) ? below : {}, undefined, path, indent),
      )
      .join("");
  }
  if (isMembers(member)) return printBlock(key(name), member, type, path, indent);
  return `${indent}${key(name)} = ${printValue(member, indent)}\n`;
}

function printBlock(
  head: string,
  members: Members,
  schema: z.ZodType | undefined,
  path: readonly string[],
  indent: string,
): string {
  const body = printMembers(members, schema, path, `${indent}  `);
  return body === "" ? `${indent}${head} {}\n` : `${indent}${head} {\n${body}${indent}}\n`;
}

function printValue(value: Plain, indent: string): string {
  if (typeof value === "string") return text(value);
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (isMembers(value)) return `{\n${printMembers(value, undefined, [], `${indent}  `)}${indent}}`;
  return `[${value.map((item) => printValue(item, indent)).join(", ")}]`;
}

const isMembers = (value: Plain): value is Members => typeof value === "object" && !Array.isArray(value);

const key = (name: string): string => (/^[A-Za-z_][\w.-]*$/.test(name) ? name : text(name));

/** What stands in `${…}` is kept as it is, as HCL keeps it. */
function text(value: string): string {
  const parts = value.split(/(\$\{[^}]*\})/);
  const printed = parts.map((part) => (part.startsWith("${") && part.endsWith("}") ? part : escaped(part)));
  return `"${printed.join("")}"`;
}

const letters: Readonly<Record<string, string>> = {
  "\n": "\\n",
  "\t": "\\t",
  "\r": "\\r",
  '"': '\\"',
  "\\": "\\\\",
};

const escaped = (part: string): string =>
  // A brace behind a dollar would begin what isn't closed.
  part.replace(/["\\\n\r\t]/g, (character) => letters[character] ?? character).replaceAll("${", "\\x24{");
