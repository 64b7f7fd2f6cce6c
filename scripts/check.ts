/** `npm run check`: types, lint and format, import rules, unused code, generated code. Changes nothing. */
import { staleFiles } from "./gen.ts";
import { checkImports } from "./import-rules.ts";
import { capture, installed, script } from "./run.ts";

export interface CheckResult {
  readonly name: string;
  /** What is wrong; empty when all is well. */
  readonly complaint: string;
}

const tool =
  (name: string, ...args: string[]) =>
  async () => {
    const { exitCode, output } = await capture([installed(name), ...args]);
    return exitCode === 0 ? "" : output.trim() || `${name} ended with exit code ${exitCode}`;
  };

const list = (lines: readonly string[], advice = "") =>
  lines.length > 0 ? [...lines, advice].join("\n").trim() : "";

const checks: Readonly<Record<string, () => Promise<string>>> = {
  types: tool("tsc", "-p", "."),
  "lint and format": tool("biome", "check", "--error-on-warnings"),
  "format of proto files": tool("buf", "format", "--diff", "--exit-code"),
  "import rules": async () => list(await checkImports()),
  "unused code": tool("knip", "--no-progress"),
  "generated code": async () => list(await staleFiles(), 'run "npm run gen"'),
};

/** Runs all checks, one after the other. */
export async function runChecks(): Promise<readonly CheckResult[]> {
  const results: CheckResult[] = [];
  for (const [name, check] of Object.entries(checks)) {
    const complaint = await check();
    console.log(`${complaint === "" ? "ok  " : "FAIL"} ${name}${complaint === "" ? "" : `\n${complaint}\n`}`);
    results.push({ name, complaint });
  }
  return results;
}

if (import.meta.main) {
  script(async () => {
    const failed = (await runChecks()).filter(({ complaint }) => complaint !== "");
    if (failed.length > 0) throw new Error(`failed: ${failed.map(({ name }) => name).join(", ")}`);
  });
}
