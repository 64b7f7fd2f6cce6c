/** What `validate` says about a configuration, in SPIRE's words. */
import type { Loaded } from "../config/server.ts";
import { SpireError } from "../core/errors.ts";
import type { Terminal } from "./command.ts";

type Program = "server" | "agent";

/** @returns the exit code. @throws what is no fault of the configuration. */
export function reportInvalid(program: Program, error: unknown, { err }: Pick<Terminal, "err">): number {
  if (!(error instanceof SpireError)) throw error;
  err(`SPIRE ${program} configuration file is invalid: ${error.message}\n`);
  return 1;
}

/** @returns the exit code. */
export function printVerdict(program: Program, loaded: Loaded<unknown>, terminal: Terminal): number {
  const { refusedKeys, pluginProblems, notYet, warnings, notices = [] } = loaded;
  const loading = pluginProblems.find((problem) => problem.loading);
  if (refusedKeys.length > 0) {
    const sentences = refusedKeys.flatMap((refused) => refused.sentences).join("; ");
    const message = `unknown configuration detected (${sentences})`;
    terminal.err(`SPIRE ${program} configuration file is invalid: ${message}\n`);
    return 1;
  }
  if (loading) {
    terminal.err(`Could not validate configuration file: ${loading.failure}\n`);
    return 1;
  }
  if (pluginProblems.length > 0) {
    terminal.err(`SPIRE ${program} configuration file is invalid.\n${listProblems(pluginProblems)}`);
    return 1;
  }
  for (const { level, message } of notices) if (level === "warn") terminal.err(`warning: ${message}\n`);
  for (const warning of warnings) terminal.err(`warning: ${warning}\n`);
  for (const missing of notYet) terminal.err(`warning: ${missing}: the ${program} will not start with it\n`);
  terminal.out(`SPIRE ${program} configuration file is valid.\n`);
  return 0;
}

function listProblems(problems: Loaded<unknown>["pluginProblems"]): string {
  const headings = [...new Set(problems.map(({ heading }) => heading))];
  const lines = headings.flatMap((heading) => [
    `\t${heading}:`,
    ...problems.filter((problem) => problem.heading === heading).map(({ note }) => `\t\t${note}`),
  ]);
  return `Validation errors:\n${lines.join("\n")}\n`;
}
