import { expect, test } from "bun:test";
import fc from "fast-check";
import { evaluatingShell, exportLine, quoteFor, type ShellSyntax, shellSyntax, usersShell } from "./shell.ts";

/** Programs that read a syntax, and how they evaluate a text and print a variable without anything added. */
const shells: readonly { name: string; syntax: ShellSyntax; script: (line: string) => string[] }[] = [
  ...["sh", "dash", "bash", "zsh", "ksh"].map((name) => ({
    name,
    syntax: "posix" as const,
    script: (line: string) => ["-c", 'eval "$1"; printenv X', name, line],
  })),
  { name: "fish", syntax: "fish", script: (line) => ["-c", "echo $argv[1] | source; printenv X", line] },
];

const hostile = [
  "/plain/path",
  "/with space",
  "it's",
  "''",
  "\\",
  "\\'",
  "trailing\\",
  '"; touch /tmp/owned; "',
  "$(id)",
  "`id`",
  "$HOME",
  "a\nb",
  "*?[x]{a,b}~",
  "!history",
  "-n",
  "#;&|<>()",
  "ünïcödé ’quotes‘",
];

for (const { name, syntax, script } of shells) {
  const path = Bun.which(name);
  test.skipIf(path === null)(`${name} reads back what was exported`, () => {
    for (const value of hostile) {
      const { stdout, exitCode } = Bun.spawnSync([path ?? name, ...script(exportLine(syntax, "X", value))]);
      expect(stdout.toString()).toBe(`${value}\n`);
      expect(exitCode).toBe(0);
    }
  });
}

test("any text is one word to sh", () => {
  const text = fc.string({ unit: "binary" }).filter((value) => !value.includes("\0") && value.isWellFormed());
  fc.assert(
    fc.property(text, (value) => {
      const { stdout } = Bun.spawnSync(["sh", "-c", `printf %s ${quoteFor("posix", value)}`]);
      expect(stdout.toString()).toBe(value);
    }),
    { numRuns: 50 },
  );
});

test("typographic quotes, which PowerShell takes for quotes, are doubled", () => {
  expect(exportLine("powershell", "X", "a'b’c")).toBe("$env:X = 'a''b’’c'");
});

test.each([
  ["/bin/bash", "posix"],
  ["-zsh", "posix"],
  ["/usr/bin/fish", "fish"],
  ["pwsh.exe", "powershell"],
  ["emacs", undefined],
] as const)("%s", (name, syntax) => expect(shellSyntax(name)).toBe(syntax));

test("the shell that evaluates is the parent; the one for the user is not a script's sh", () => {
  expect(evaluatingShell("sh", "/usr/bin/fish")).toBe("posix");
  expect(evaluatingShell("node", "/usr/bin/fish")).toBe("fish");
  expect(evaluatingShell(undefined, undefined)).toBe("posix");
  expect(usersShell("sh", "/usr/bin/fish")).toBe("fish");
  expect(usersShell("fish", "/bin/bash")).toBe("fish");
});
