/** `spire completion …`: what the shells need to know to complete the commands, read from the command tree. */
import { type Command, command, commandsOf, type Group, type Leaf, type Terminal } from "./command.ts";
import { bashCompletion } from "./completion-bash.ts";
import { fishCompletion } from "./completion-fish.ts";
import { zshCompletion } from "./completion-zsh.ts";

/** A flag as shells see it. */
export interface CompletedFlag {
  readonly name: string;
  readonly usage: string;
  readonly takesValue: boolean;
  /** The values that there are; empty = any text, or the name of a file. */
  readonly choices: readonly string[];
}

/** The commands and flags that may follow a path of words, such as `server entry`. */
export interface CompletedPlace {
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly summary: string }[];
  readonly flags: readonly CompletedFlag[];
}

export type CompletedShell = "bash" | "zsh" | "fish";

const generators: Readonly<Record<CompletedShell, (places: readonly CompletedPlace[]) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

/** @param tree of `spire`; the links `spire-server` and `spire-agent` are completed from their parts of it. */
export const completionCommand = (shell: CompletedShell, tree: () => Group): Command =>
  command({
    name: `completion ${shell}`,
    summary: `Prints the completion of commands for ${shell}`,
    example: `completion ${shell}`,
    flags: {},
    run: async ({ terminal }) => {
      terminal.out(generators[shell](await completedPlaces(tree(), terminal)));
      return 0;
    },
  });

/** Every place of the tree, in the order of its words. */
export async function completedPlaces(
  tree: Group,
  terminal: Pick<Terminal, "env">,
  path = "",
): Promise<readonly CompletedPlace[]> {
  const children = Object.entries(commandsOf(tree, terminal))
    .filter(([, child]) => !("load" in child && child.isInternal))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const below = (name: string) => (path === "" ? name : `${path} ${name}`);
  const places = await Promise.all(
    children.map(async ([name, child]) =>
      "load" in child
        ? [{ path: below(name), commands: [], flags: await flagsOf(child) }]
        : completedPlaces(child, terminal, below(name)),
    ),
  );
  const commands = children.map(([name, { summary }]) => ({ name, summary }));
  return [{ path, commands, flags: tree.main ? await flagsOf(tree.main) : [] }, ...places.flat()];
}

async function flagsOf(leaf: Leaf): Promise<readonly CompletedFlag[]> {
  const { flags } = await leaf.load();
  const own = Object.entries(flags).map(([name, { usage, kind, choices = [] }]) => ({
    name,
    usage,
    takesValue: kind !== "",
    choices,
  }));
  const help = { name: "help", usage: "Show the command's help", takesValue: false, choices: [] };
  return [...own, help].sort((a, b) => (a.name < b.name ? -1 : 1));
}
