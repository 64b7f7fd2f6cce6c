/** What a command is, the tree that commands hang in, and how both meet the user: help, errors, exit codes. */
import { type CommandDef, defineCommand, runCommand } from "citty";
import { invalidArgument, SpireError } from "../core/errors.ts";
import {
  FlagError,
  type Flags,
  type FlagValues,
  HelpRequested,
  helpFlags,
  nearest,
  parseFlags,
  usageOf,
} from "./flags.ts";

/** Everything of its process that a command touches. */
export interface Terminal {
  /** Standard output, as it is: lines bring their own end. */
  out(text: string): void;
  err(text: string): void;
  /** Standard input to its end. */
  readInput(): Promise<string>;
  /** Resolves when the process is asked to end (SIGINT, SIGTERM). */
  untilStopped(): Promise<void>;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** One run of a command: its flags, what follows them, and where it prints. */
export interface Invocation<F extends Flags> {
  readonly flags: FlagValues<F>;
  /** Names of the flags that were given. */
  readonly given: ReadonlySet<string>;
  /** Arguments after the flags. */
  readonly rest: readonly string[];
  readonly terminal: Terminal;
}

export interface CommandSpec<F extends Flags> {
  /** As usage text calls it, such as `entry create`. */
  readonly name: string;
  /** One sentence. */
  readonly summary: string;
  /** A command line that works, without the program's name. */
  readonly example: string;
  readonly flags: F;
  /** Before the message of an error; `Error: ` unless said. */
  readonly errorPrefix?: string;
  /** Flags may also follow what is no flag, as in `restore FILE -dryRun`. */
  readonly flagsAnywhere?: boolean;
  /** Some of SPIRE's commands tell what is wrong with a flag once more after the usage; this stands before it. */
  readonly repeatsFlagErrorAfter?: string;
  /** Resolves to the exit code; nothing = 0. Throws to exit with 1 and the error's message. */
  readonly run: (invocation: Invocation<F>) => Promise<number | undefined>;
}

/** What is told about a command: by its help, to shells that complete it, and by documentation. */
export type CommandFacts = Pick<
  CommandSpec<Flags>,
  "name" | "summary" | "example" | "flags" | "flagsAnywhere"
>;

/** A command with its flags' types closed over. */
export interface Command extends CommandFacts {
  /** `calledAs` is the program's name, for examples. @returns the exit code. Never throws. */
  execute(args: readonly string[], terminal: Terminal, calledAs: string): Promise<number>;
}

export function command<F extends Flags>(spec: CommandSpec<F>): Command {
  const usage = usageOf(spec.name, spec.flags);
  const { name, summary, example, flags, flagsAnywhere } = spec;
  return {
    name,
    summary,
    example,
    flags,
    ...(flagsAnywhere !== undefined && { flagsAnywhere }),
    async execute(args, terminal, calledAs) {
      try {
        if (asksForHelp(args)) {
          terminal.err(`${usage}\n${spec.summary}.\n\nExample:\n  ${calledAs} ${spec.example}\n`);
          return 0;
        }
        const { values, given, rest } = parseFlags(spec.flags, args, spec.flagsAnywhere);
        for (const [flag, { flawIn }] of Object.entries(spec.flags)) {
          const flaw = flawIn?.(values[flag], terminal.env);
          if (flaw !== undefined) throw invalidArgument(flaw);
        }
        return (await spec.run({ flags: values, given, rest, terminal })) ?? 0;
      } catch (error) {
        if (error instanceof HelpRequested) {
          terminal.err(usage);
          return 1;
        }
        if (error instanceof FlagError) {
          terminal.err(`${error.message}\n${error.hint ? `${error.hint}\n` : ""}${usage}`);
          const { repeatsFlagErrorAfter: before } = spec;
          if (before !== undefined) terminal.err(`${before}${error.message}\n`);
          return 1;
        }
        terminal.err(`${spec.errorPrefix ?? "Error: "}${describeError(error)}\n`);
        return 1;
      }
    },
  };
}

function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end < 0 ? args : args.slice(0, end)).some((argument) => helpFlags.includes(argument));
}

/** A defect of ours keeps its stack: whoever reports it has nothing else. */
function describeError(error: unknown): string {
  if (error instanceof SpireError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** A command of the tree, loaded when it is run. */
export interface Leaf {
  readonly summary: string;
  /** The program itself calls it; nobody is told of it. */
  readonly isInternal?: boolean;
  readonly load: () => Promise<Command>;
}

/** Commands below a word; `main` runs when none of them is named. */
export interface Group {
  readonly summary: string;
  readonly commands: Readonly<Record<string, Leaf | Group>>;
  readonly main?: Leaf;
  /** It is there only if SPIRE_SERVER_FFLAGS of the environment has this among its words, as in SPIRE. */
  readonly featureFlag?: string;
  /** A program of its own (`spire server` is `spire-server`): its commands' examples begin with it. */
  readonly isProgram?: boolean;
}

export interface Program {
  /** As it was called, such as `spire-server`. */
  readonly name: string;
  readonly version: string;
  readonly tree: Group;
}

/** What a group has in this environment. */
export function commandsOf({ commands }: Group, { env }: Pick<Terminal, "env">): Group["commands"] {
  const flags = (env["SPIRE_SERVER_FFLAGS"] ?? "").split(" ");
  return Object.fromEntries(
    Object.entries(commands).filter(
      ([, child]) => !("featureFlag" in child) || flags.includes(child.featureFlag ?? ""),
    ),
  );
}

const versionFlags: readonly string[] = ["-v", "-version", "--version"];

/** SPIRE's code for a program that was given no command it knows. */
const unknownCommand = 127;

/** Runs what the arguments (without the program) name. @returns the exit code. */
export async function runProgram(
  program: Program,
  args: readonly string[],
  terminal: Terminal,
): Promise<number> {
  const [first = ""] = args;
  if (versionFlags.includes(first)) {
    terminal.err(`${program.version}\n`);
    return 0;
  }
  let exitCode = 0;
  const exit = (code: number) => {
    exitCode = code;
  };
  const root = cittyGroup(program.tree, { calledAs: program.name, isRoot: true, terminal, exit });
  // `-h entry create` asks for the help of `entry create`.
  const words = args.slice(args.findIndex((argument) => !helpFlags.includes(argument)));
  const asked = helpFlags.includes(first) && args.some((argument) => !helpFlags.includes(argument));
  await runCommand(root, { rawArgs: asked ? [...words, first] : [...args] });
  return exitCode;
}

interface Context {
  /** The program's name, and the word that selects it within `spire`. */
  readonly calledAs: string;
  /** Whether the group at hand is a whole program. */
  readonly isRoot: boolean;
  readonly terminal: Terminal;
  readonly exit: (code: number) => void;
}

/** citty drops what a subcommand returns, so each leaf reports its own exit code. */
function cittyLeaf(leaf: Leaf, context: Context): CommandDef {
  return defineCommand({
    meta: { description: leaf.summary },
    async run({ rawArgs }) {
      const loaded = await leaf.load();
      context.exit(await loaded.execute(rawArgs, context.terminal, context.calledAs));
    },
  });
}

/**
 * Only the first word may name a subcommand (citty would look past flags and take a flag's value for one), so a
 * group passes its children on to citty only after it has seen that word.
 */
function cittyGroup(group: Group, context: Context): CommandDef {
  return defineCommand({
    meta: { description: group.summary },
    async run({ rawArgs }) {
      const [word = "", ...rest] = rawArgs;
      const commands = commandsOf(group, context.terminal);
      const child = Object.hasOwn(commands, word) ? commands[word] : undefined;
      if (child) {
        const def =
          "load" in child ? cittyLeaf(child, context) : cittyGroup(child, below(context, word, child));
        await runCommand(def, { rawArgs: rest });
      } else if (group.main) {
        await runCommand(cittyLeaf(group.main, context), { rawArgs });
      } else {
        context.exit(refuse({ ...group, commands }, word, context));
      }
    },
  });
}

function below(context: Context, word: string, group: Group): Context {
  if (!group.isProgram) return { ...context, isRoot: false };
  return { ...context, isRoot: true, calledAs: `${context.calledAs} ${word}` };
}

/** Says what there is to call. @returns the exit code. */
function refuse(group: Group, word: string, { isRoot, calledAs, terminal }: Context): number {
  const near = word.startsWith("-") ? undefined : nearest(word, Object.keys(group.commands));
  if (near) terminal.err(`unknown command ${word}, did you mean ${near}?\n`);
  terminal.err(isRoot ? programUsage(group, calledAs) : groupUsage(group));
  if (helpFlags.includes(word)) return 0;
  return isRoot ? unknownCommand : 1;
}

function programUsage(group: Group, name: string): string {
  return `Usage: ${name} [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n${listed(group)}\n\n`;
}

function groupUsage(group: Group): string {
  return `This command is accessed by using one of the subcommands below.\n\nSubcommands:\n${listed(group)}`;
}

function listed(group: Group): string {
  const names = Object.keys(group.commands).sort();
  const width = Math.max(...names.map((name) => name.length));
  return names.map((name) => `    ${name.padEnd(width)}  ${group.commands[name]?.summary ?? ""}\n`).join("");
}
