/** `spire dev env`: the environment of the instance that runs already, as assignments to evaluate. */
import { SpireError } from "../core/errors.ts";
import { type Command, command } from "./command.ts";
import { outputFlag, stringFlag } from "./flags.ts";
import {
  evaluatingShell,
  exportLine,
  parentName,
  type ShellSyntax,
  shellNames,
  shellSyntax,
} from "./shell.ts";

/** A development instance of this user. */
export interface DevInstance {
  readonly name: string;
  readonly pid: number;
  readonly trust_domain: string;
  readonly server_address: string;
  readonly env: Readonly<Record<string, string>>;
}

/** @param list finds the instances that run. */
export const devEnv = (list: () => readonly DevInstance[]): Command =>
  command({
    name: "dev env",
    summary: "Prints the environment of the development instance that runs, for the shell to evaluate",
    example: "dev env -name dev-2",
    flags: {
      name: stringFlag("Name of the instance; needed when several run"),
      shell: stringFlag(`Shell to write for (${shellNames.join(", ")}); found out if not set`),
      output: outputFlag,
    },
    run: async ({ flags, terminal }) => {
      const { env } = chooseInstance(list(), flags.name);
      if (flags.output === "json") {
        terminal.out(`${JSON.stringify(env)}\n`);
        return 0;
      }
      const syntax = chooseSyntax(flags.shell, terminal.env["SHELL"]);
      for (const [name, value] of Object.entries(env)) terminal.out(`${exportLine(syntax, name, value)}\n`);
      return 0;
    },
  });

function chooseSyntax(wanted: string, loginShell: string | undefined): ShellSyntax {
  if (wanted === "") return evaluatingShell(parentName(), loginShell);
  const syntax = shellSyntax(wanted);
  if (syntax) return syntax;
  throw new SpireError(
    "INVALID_ARGUMENT",
    `shell "${wanted}" is not known; there are ${shellNames.join(", ")}`,
  );
}

/** @throws SpireError NOT_FOUND when none fits, FAILED_PRECONDITION with a list when several do. */
function chooseInstance(instances: readonly DevInstance[], name: string): DevInstance {
  const fitting = name === "" ? instances : instances.filter((instance) => instance.name === name);
  const [first, ...others] = fitting;
  if (first && others.length === 0) return first;
  if (first) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `several development instances run; choose one with --name\n${listed(instances)}`,
    );
  }
  if (instances.length === 0) {
    throw new SpireError("NOT_FOUND", `no development instance runs; start one with "spire dev"`);
  }
  throw new SpireError("NOT_FOUND", `no development instance is named "${name}"\n${listed(instances)}`);
}

function listed(instances: readonly DevInstance[]): string {
  const width = Math.max(...instances.map(({ name }) => name.length));
  return instances
    .map(
      ({ name, pid, trust_domain, server_address }) =>
        `  ${name.padEnd(width)}  pid ${pid}  ${trust_domain}  ${server_address}`,
    )
    .join("\n");
}
