/** The reference implementation of HCL 1, asked for many documents at once. */
import { buildGo } from "../../interop/toolchains.ts";

export interface Answer {
  readonly tree: unknown;
  readonly treeError?: string;
  readonly value: unknown;
  readonly valueError?: string;
}

/** One answer for each text. */
export async function askReference(texts: readonly string[]): Promise<readonly Answer[]> {
  const program = await buildGo("test/fuzz/hcl", "hcl-reference");
  const child = Bun.spawn([program], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  child.stdin.write(texts.map((text) => `${JSON.stringify(text)}\n`).join(""));
  const [output] = await Promise.all([child.stdout.text(), child.stdin.end()]);
  if ((await child.exited) !== 0) throw new Error("the reference ended with an error");
  return output
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);
}
