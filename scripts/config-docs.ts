/** Writes docs/configuration.md from the schemas: every option, its default, and whether it is honoured. */
import { z } from "zod";
import { agentFile } from "../src/config/agent-schema.ts";
import { type Program, pluginBlock, pluginKinds } from "../src/config/plugin-catalog.ts";
import { factsOf, inner, optionsOf } from "../src/config/schema.ts";
import { serverFile } from "../src/config/server-schema.ts";

const head = `# Configuration

<!-- Made from src/config by "npm run gen"; changes here are lost. -->

\`spire server run -config FILE\` and \`spire agent run -config FILE\` read SPIRE's configuration files as they are: HCL,
or the same in JSON or YAML (a name that ends in \`.yaml\` or \`.yml\`). Without \`-config\` they read
\`conf/server/server.conf\` and \`conf/agent/agent.conf\` if these are there; else flags are all. A flag beats the file,
and the file beats the default. With \`-expandEnv\`, \`$NAME\` and \`\${NAME}\` anywhere in the file become the
environment's values, and \`$$\` becomes \`$\`.

\`\`\`sh
spire server validate -config server.conf      # says what is wrong, where, and how to mend it
spire config schema -program server            # JSON Schema, for editors
spire config convert -to yaml server.conf      # the same in YAML, JSON or HCL; comments are left out
\`\`\`

A message begins as SPIRE's does; the place (\`file:line:column\`) and what to do follow in parentheses. Nothing but the
log is written before the whole configuration holds.

Keys that nobody knows are refused where SPIRE refuses them. Where SPIRE ignores them (in \`experimental\`,
\`federates_with\`, \`sds\` and most plugins' options), \`validate\` and the log warn of them, with the nearest name. What
is marked *not yet* is refused at the start where it asks for something; \`validate\` only warns of it. Durations are in Go's notation: \`90s\`, \`1h30m\`.
`;

/** The whole page. */
export const configurationPage = (): string =>
  [head, ...programPage("server"), ...programPage("agent")].join("\n");

function programPage(program: Program): readonly string[] {
  const file = program === "server" ? serverFile : agentFile;
  const sections = Object.entries(optionsOf(file)).flatMap(([name, schema]) => tables(name, schema, 3));
  return [`## The ${program}\n`, ...sections, ...pluginTables(program)];
}

/** A table for a section, and one for each block in it. */
function tables(path: string, schema: z.ZodType, level: number): readonly string[] {
  const options = Object.entries(optionsOf(elementOf(schema)));
  const rows = options.filter(([, option]) => !isBlock(option)).map(([name, option]) => row(name, option));
  const below = options.filter(([, option]) => isBlock(option));
  const notes = [`${factsOf(schema)?.description ?? ""}.${status(schema, " ")}`];
  return [
    `${"#".repeat(Math.min(level, 5))} ${path}\n\n${notes.join("")}\n`,
    ...(rows.length > 0
      ? [`| option | type | default | what |\n| --- | --- | --- | --- |\n${rows.join("\n")}\n`]
      : []),
    ...below.flatMap(([name, option]) => tables(`${path}.${blockName(name, option)}`, option, level + 1)),
  ];
}

/** What a list of blocks, or a set of named ones, consists of. */
function elementOf(schema: z.ZodType): z.ZodType {
  const type = inner(schema);
  if (type instanceof z.ZodArray) return type.element as z.ZodType;
  return type instanceof z.ZodRecord ? (type.valueType as z.ZodType) : type;
}

const isBlock = (schema: z.ZodType): boolean => elementOf(schema) instanceof z.ZodObject;

const blockName = (name: string, schema: z.ZodType): string =>
  inner(schema) instanceof z.ZodRecord ? `${name} "…"` : name;

function row(name: string, schema: z.ZodType): string {
  const facts = factsOf(schema);
  const initial = facts?.default === undefined ? "" : `\`${facts.default}\``;
  return `| \`${name}\` | ${typeName(schema)} | ${initial} | ${schema.meta()?.description ?? ""}${status(schema, ". ")} |`;
}

function typeName(schema: z.ZodType): string {
  const type = inner(schema);
  if (type instanceof z.ZodNumber) return "integer";
  if (type instanceof z.ZodBoolean) return "boolean";
  if (type instanceof z.ZodArray) return "list";
  if (type instanceof z.ZodRecord) return "map";
  return factsOf(schema)?.isDuration ? "duration" : "text";
}

function status(schema: z.ZodType, before: string): string {
  const facts = factsOf(schema);
  if (facts?.notYet !== undefined) return `${before}*Not yet.*`;
  return facts?.noEffect === undefined ? "" : `${before}*No effect: ${facts.noEffect}.*`;
}

function pluginTables(program: Program): readonly string[] {
  const block = Object.entries(pluginBlock).map(([name, description]) => `| \`${name}\` | ${description} |`);
  const kinds = Object.entries(pluginKinds[program]).flatMap(([kind, { least, most, plugins }]) => [
    `#### ${kind}\n\n${count(least, most)}.\n`,
    ...Object.entries(plugins).map(([name, { description, options, here }]) => {
      const yet = here ? "" : " *Not yet.*";
      const names = Object.keys(options.shape).map((option) => `\`${option}\``);
      const rows = here ? Object.entries(options.shape).map(([option, schema]) => row(option, schema)) : [];
      const table =
        rows.length > 0
          ? `\n\n| option | type | default | what |\n| --- | --- | --- | --- |\n${rows.join("\n")}`
          : "";
      const list = here || names.length === 0 ? "" : ` Options: ${names.join(", ")}.`;
      return `**\`${name}\`**: ${description}.${yet}${list}${table}\n`;
    }),
  ]);
  return [
    `### plugins\n\n\`Kind "name" { plugin_data { … } }\`; required. External plugins are *not yet* supported.\n`,
    `| option | what |\n| --- | --- |\n${block.join("\n")}\n`,
    ...kinds,
  ];
}

function count(least: number, most: number): string {
  if (least === most) return `Exactly ${least === 1 ? "one" : least}`;
  if (least > 0) return "One or more";
  return most === 1 ? "At most one" : "Any number";
}
