/** `spire config`: the schema of configuration files, and other notations of them. */
import { convertFile } from "../config/convert.ts";
import { jsonSchemaOf } from "../config/json-schema.ts";
import type { Notation } from "../config/parse.ts";
import { invalidArgument } from "../core/errors.ts";
import { type Command, command } from "./command.ts";
import { type Flag, stringFlag } from "./flags.ts";
import { quote } from "./go-text.ts";

const notations: readonly Notation[] = ["hcl", "yaml", "json"];

const notationFlag: Flag<Notation> = {
  usage: "Desired notation: hcl, yaml or json",
  kind: "value",
  initial: "yaml",
  shown: "yaml",
  choices: notations,
  parse(text) {
    const notation = notations.find((known) => known === text);
    if (notation) return notation;
    throw new Error(`there are ${notations.join(", ")}`);
  },
};

export const configSchema: Command = command({
  name: "config schema",
  summary: "Prints the JSON Schema of a configuration file",
  example: "config schema -program server > server.schema.json",
  flags: { program: stringFlag("Whose file: server or agent", "server", ["server", "agent"]) },
  run: async ({ flags: { program }, terminal }) => {
    if (program !== "server" && program !== "agent") {
      throw invalidArgument(`no such program: ${quote(program)}; there are server and agent`);
    }
    terminal.out(`${JSON.stringify(jsonSchemaOf(program), null, 2)}\n`);
    return 0;
  },
});

export const configConvert: Command = command({
  name: "config convert",
  summary: "Prints a configuration file in another notation; comments are left out",
  example: "config convert -to yaml conf/server/server.conf",
  flags: { to: notationFlag },
  run: async ({ flags: { to }, rest, terminal }) => {
    const [path, ...more] = rest;
    if (path === undefined || more.length > 0)
      throw invalidArgument("give one file to convert, after the flags");
    terminal.out(convertFile(path, to));
    return 0;
  },
});
