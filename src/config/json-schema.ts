/** The JSON Schema of a configuration file in JSON or YAML, for editors. */
import { z } from "zod";
import { agentFile } from "./agent-schema.ts";
import { type Program, pluginBlock, pluginKinds } from "./plugin-catalog.ts";
import { serverFile } from "./server-schema.ts";

/** Facts of ours about options, which would say nothing to an editor. */
const ownFacts = ["initial", "isDuration", "notYet", "off", "noEffect", "section", "unknownKeys"];

/** Draft 2020-12. Numbers are accepted in quotes, as SPIRE accepts them. */
export function jsonSchemaOf(program: Program): object {
  const file = program === "server" ? serverFile : agentFile;
  const schema = file.extend({ plugins: pluginsSchema(program).optional() });
  const described = z.toJSONSchema(schema, {
    reused: "inline",
    override: ({ jsonSchema }) => {
      for (const name of ownFacts) delete jsonSchema[name];
      if (jsonSchema.type === "integer") {
        const { description } = jsonSchema;
        for (const name of Object.keys(jsonSchema)) delete jsonSchema[name];
        Object.assign(jsonSchema, { ...(description && { description }), type: ["integer", "string"] });
      }
    },
  });
  return { ...described, title: `Configuration of the ${program}` };
}

/** Plugins of a kind come as an object by name, or as a list of such objects where their order counts. */
function pluginsSchema(program: Program) {
  const kinds = Object.entries(pluginKinds[program]).map(([kind, { plugins }]) => {
    const names = Object.entries(plugins).map(([name, { description, options }]) => [
      name,
      blockSchema(options).optional().meta({ description }),
    ]);
    const byName = z
      .object(Object.fromEntries(names))
      .catchall(blockSchema(z.object({}).catchall(z.unknown())));
    return [kind, z.union([byName, z.array(byName)]).optional()];
  });
  return z
    .strictObject(Object.fromEntries(kinds))
    .meta({ description: "Plugins by kind and name; required" });
}

const blockSchema = (options: z.ZodObject) =>
  z.strictObject({
    plugin_data: options.optional().meta({ description: pluginBlock.plugin_data }),
    plugin_data_file: z.string().optional().meta({ description: pluginBlock.plugin_data_file }),
    enabled: z.boolean().optional().meta({ description: pluginBlock.enabled }),
    plugin_cmd: z.string().optional().meta({ description: pluginBlock.plugin_cmd }),
    plugin_args: z.array(z.string()).optional().meta({ description: pluginBlock.plugin_args }),
    plugin_checksum: z.string().optional().meta({ description: pluginBlock.plugin_checksum }),
  });
