/** `spire dev exec-tied`: for `dev -- command` alone, which starts its command through it. */
import type { Command } from "./command.ts";

/** @param execute becomes the command; returns only when that can't be. */
export const devExecTied = (
  execute: (
    argv: readonly string[],
    parent: number,
  ) => { readonly exitCode: number; readonly message: string },
): Command => ({
  name: "dev exec-tied",
  summary: "Starts the command of `dev -- command`",
  example: "dev exec-tied 1 true",
  flags: {},
  async execute([parent, ...argv], terminal) {
    const { exitCode, message } = execute(argv, Number(parent));
    terminal.err(`spire dev: ${message}\n`);
    return exitCode;
  },
});
