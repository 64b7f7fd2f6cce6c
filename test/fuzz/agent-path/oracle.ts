/** Go's text/template with sprig's functions, asked to fill many templates at once. */
import { join } from "node:path";
import { buildGo } from "../../interop/toolchains.ts";

export interface Answer {
  readonly result: string;
  /** Where it failed. */
  readonly stage?: "parse" | "execute";
  readonly error?: string;
}

/** The certificate whose fields the templates name. */
export const certificatePath = join(import.meta.dir, "node.pem");

/** One answer for each template. @param functions of sprig that they may call. */
export async function askGo(
  templates: readonly string[],
  functions: readonly string[],
): Promise<readonly Answer[]> {
  const program = await buildGo("test/fuzz/agent-path", "agent-path-reference");
  const child = Bun.spawn([program, certificatePath], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  child.stdin.write([functions, ...templates].map((line) => `${JSON.stringify(line)}\n`).join(""));
  const [output] = await Promise.all([child.stdout.text(), child.stdin.end()]);
  if ((await child.exited) !== 0) throw new Error("the reference ended with an error");
  return output
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);
}
