/** Whether the named plugins can be what they are configured as: kinds, names, numbers of them, their options. */
import { existsSync } from "node:fs";
import { quote } from "../core/go-text.ts";
import { nearest } from "../core/nearest.ts";
import { inParentheses, type Origin } from "./origin.ts";
import { type Program, pluginKinds } from "./plugin-catalog.ts";
import type { PluginConfig } from "./plugins.ts";

/** One thing that is wrong. */
export interface PluginProblem {
  /** The plugin can't even be loaded; then nothing else of the configuration counts. */
  readonly loading: boolean;
  /** As `validate` lists it: `KeyManager "disk"`. */
  readonly heading: string;
  /** Below the heading. */
  readonly note: string;
  /** As the start of the program fails with it. */
  readonly failure: string;
}

/** All problems, those of loading first. */
export function pluginProblems(
  program: Program,
  plugins: readonly PluginConfig[],
  origin: Origin,
): readonly PluginProblem[] {
  const enabled = plugins.filter((plugin) => plugin.enabled);
  const loading = plugins.flatMap((plugin) => loadingProblems(program, plugin, origin));
  const options = enabled.flatMap((plugin) => optionProblems(plugin, origin));
  return [...loading, ...countProblems(program, enabled, origin), ...options];
}

function loadingProblems(program: Program, plugin: PluginConfig, origin: Origin): readonly PluginProblem[] {
  const { kind, name, command, checksum } = plugin;
  const place = origin.place(plugin.position);
  const kinds = pluginKinds[program];
  const known = kinds[kind];
  const failing = (message: string, remedy: string): readonly PluginProblem[] => {
    const failure = `${message}${inParentheses(place, remedy)}`;
    return [{ loading: true, heading: `${kind} ${quote(name)}`, note: failure, failure }];
  };
  if (!known) return failing(`unsupported plugin type ${quote(kind)}`, choose(kind, Object.keys(kinds)));
  if (!plugin.enabled) return [];
  if (command !== undefined) {
    if (kind === "NodeAttestor" && name === "join_token") {
      const message = "the built-in join_token node attestor cannot be overridden by an external plugin";
      return failing(message, "remove plugin_cmd");
    }
    const flaw = flawOfProgram(command, checksum);
    if (flaw === undefined) return [];
    return failing(
      `failed to load plugin ${quote(name)}: ${flaw}`,
      flaw.includes("checksum") ? "give the SHA-256 of plugin_cmd, hexadecimal" : "look at plugin_cmd",
    );
  }
  if (kind === "DataStore" && plugin.dataProblem !== undefined && plugin.dataFile !== undefined)
    return failing(`failed to get DataStore configuration: ${plugin.dataProblem.message}`, otherFile);
  if (plugin.facts) return [];
  const reason = `no built-in plugin ${quote(name)} for type ${quote(kind)}`;
  const remedy = choose(name, Object.keys(known.plugins));
  return failing(`failed to load plugin ${quote(name)}: ${reason}`, remedy);
}

const otherFile = "plugin_data_file: make it, or name another one";

/** In the order in which SPIRE finds out. */
function flawOfProgram(command: string, checksum: string): string | undefined {
  if (!/^(?:[\dA-Fa-f]{2})*$/.test(checksum)) return "checksum is not a valid hex string";
  if (checksum !== "" && checksum.length !== 64)
    return `expected checksum of length 64; got ${checksum.length}`;
  if (!command.includes("/") || existsSync(command)) return undefined;
  return `failed to launch plugin: fork/exec ${command}: no such file or directory`;
}

function choose(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === undefined ? `there are ${known.join(", ")}` : `did you mean "${near}"?`;
}

function countProblems(
  program: Program,
  plugins: readonly PluginConfig[],
  origin: Origin,
): readonly PluginProblem[] {
  return Object.entries(pluginKinds[program]).flatMap(([kind, { least, most }]) => {
    const found = plugins.filter((plugin) => plugin.kind === kind);
    if (found.length >= least && found.length <= most) return [];
    return [
      found.length === 0 && kind === "DataStore"
        ? noDatastore
        : countProblem(kind, [least, most], found, origin),
    ];
  });
}

const noDatastore: PluginProblem = {
  loading: false,
  heading: 'DataStore "sql"',
  note: "'datastore' must be configured",
  failure: "expecting a DataStore plugin",
};

function countProblem(
  kind: string,
  [least, most]: readonly [number, number],
  found: readonly PluginConfig[],
  origin: Origin,
): PluginProblem {
  const wanted = least === most ? `exactly ${least}` : least > 0 ? `at least ${least}` : `at most ${most}`;
  const constraint = `constraint not satisfied: expected ${wanted} but got ${found.length}`;
  const surplus = found[most];
  const where = surplus ? inParentheses(origin.place(surplus.position), "this one is too many") : "";
  return {
    loading: false,
    heading: kind,
    note: `${constraint}${where}`,
    failure: `plugin type ${quote(kind)} ${constraint}${where}`,
  };
}

function optionProblems(plugin: PluginConfig, origin: Origin): readonly PluginProblem[] {
  const { facts, data, dataProblem, dataFile, kind, name } = plugin;
  if (!facts || plugin.command !== undefined) return [];
  const problem = (message: string, where: string): PluginProblem => {
    const configuring = `failed to configure plugin ${quote(name)}: rpc error: code = InvalidArgument desc = `;
    return {
      loading: false,
      heading: `${kind} ${quote(name)}`,
      note: `${message}${where}`,
      failure: `${kind === "DataStore" ? "" : configuring}${message}${where}`,
    };
  };
  if (dataProblem !== undefined && dataFile !== undefined && /^open /.test(dataProblem.message)) {
    const message = `${dataProblem.message}${inParentheses(origin.place(plugin.position), otherFile)}`;
    const failure = `failed to configure plugin ${quote(name)}: failed to load plugin data: ${message}`;
    const note = `failed to read plugin configuration: ${message}`;
    return kind === "DataStore" ? [] : [{ loading: false, heading: `${kind} ${quote(name)}`, note, failure }];
  }
  if (dataProblem !== undefined)
    return [problem(dataProblem.message, inParentheses(origin.place(plugin.position), dataProblem.remedy))];
  const unknown = facts.unknownKeys === "refuse" ? data.unknown : [];
  const place = inParentheses(origin.place(plugin.position), undefined);
  return [
    ...unknown.map((key) =>
      problem(
        `unknown setting ${quote(key.name)} encountered`,
        inParentheses(origin.place(key.position), undefined),
      ),
    ),
    ...(facts.check?.(data.value) ?? []).map((message) => problem(message, place)),
  ];
}
