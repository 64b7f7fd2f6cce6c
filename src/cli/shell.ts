/** Assignments as the user's shell reads them, quoted so that no path can be more than a value. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";

/** Shells that share a syntax; `posix` is sh, dash, bash, zsh and ksh. */
export type ShellSyntax = "posix" | "fish" | "powershell";

const syntaxes: Readonly<Record<string, ShellSyntax>> = {
  sh: "posix",
  dash: "posix",
  ash: "posix",
  bash: "posix",
  zsh: "posix",
  ksh: "posix",
  posix: "posix",
  fish: "fish",
  pwsh: "powershell",
  powershell: "powershell",
};

export const shellNames: readonly string[] = Object.keys(syntaxes);

/** The syntax of the shell of that name, path or login name (`-bash`). */
export const shellSyntax = (shell: string): ShellSyntax | undefined =>
  syntaxes[
    basename(shell)
      .replace(/^-/, "")
      .replace(/\.exe$/i, "")
      .toLowerCase()
  ];

/** A line that exports a variable to the programs that the shell starts. */
export function exportLine(syntax: ShellSyntax, name: string, value: string): string {
  switch (syntax) {
    case "posix":
      return `export ${name}=${quoteFor(syntax, value)}`;
    case "fish":
      return `set -gx ${name} ${quoteFor(syntax, value)}`;
    case "powershell":
      return `$env:${name} = ${quoteFor(syntax, value)}`;
  }
}

/** The text as one word that the shell takes as it is, in single quotes. */
export function quoteFor(syntax: ShellSyntax, text: string): string {
  switch (syntax) {
    case "posix":
      return `'${text.replaceAll("'", `'\\''`)}'`;
    case "fish":
      return `'${text.replace(/[\\']/g, (character) => `\\${character}`)}'`;
    case "powershell":
      // Typographic quotes end a string there as well.
      return `'${text.replace(/['\u2018-\u201B]/g, (character) => character + character)}'`;
  }
}

/** As `quoteFor`, but a word that no shell reads anything into stays bare. */
export const quoteIfNeeded = (syntax: ShellSyntax, text: string): string =>
  /^[A-Za-z0-9_./:@%+-]+$/.test(text) ? text : quoteFor(syntax, text);

/** Name of the program that started this one; undefined where the system doesn't tell. */
export function parentName(): string | undefined {
  try {
    return readFileSync(`/proc/${process.ppid}/comm`, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** The syntax for output that the shell which started this process evaluates; `$SHELL` where that isn't known. */
export const evaluatingShell = (parent: string | undefined, loginShell: string | undefined): ShellSyntax =>
  shellSyntax(parent ?? "") ?? shellSyntax(loginShell ?? "") ?? "posix";

/** The syntax for output that the user copies: a plain `sh` in between is a script's, not theirs. */
export const usersShell = (parent: string | undefined, loginShell: string | undefined): ShellSyntax =>
  evaluatingShell(parent === "sh" || parent === "dash" ? undefined : parent, loginShell);
