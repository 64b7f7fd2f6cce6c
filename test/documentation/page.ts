/** A page of docs/ that says what to type: its commands, typed in, in their order. */
import { expect } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { root } from "../../scripts/run.ts";
import { createOperator } from "./operator.ts";

interface Block {
  readonly heading: string;
  readonly commands: string;
  /** What they print; "…" stands for anything. Undefined where the page doesn't show it. */
  readonly printed: string | undefined;
}

/** The `sh` blocks of a page, each with the `text` block that follows it. */
function blocksOf(page: string): readonly Block[] {
  const blocks: Block[] = [];
  let heading = "";
  for (const [, title, language, content = ""] of page.matchAll(/^#+ (.*)$|^```(\w+)\n([\s\S]*?)^```$/gm)) {
    if (title !== undefined) heading = title;
    if (language === "sh") blocks.push({ heading, commands: content, printed: undefined });
    const last = blocks.at(-1);
    if (language === "text" && last?.heading === heading) {
      blocks.splice(-1, 1, { ...last, printed: content });
    }
  }
  return blocks;
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Whether the output is what the page shows. */
const patternOf = (shown: string): RegExp =>
  new RegExp(`^${shown.trim().split("…").map(escaped).join("[\\s\\S]*?")}$`);

/** Each command of the page runs, and prints what the page says. @param atLeast fewer blocks than that can't be all. */
export async function typePage(page: string, atLeast: number): Promise<void> {
  const blocks = blocksOf(await readFile(join(root, "docs", page), "utf8"));
  expect(blocks.length).toBeGreaterThan(atLeast);
  const operator = await createOperator();
  try {
    for (const { heading, commands, printed } of blocks) {
      const output = await operator.type(commands).catch((error: unknown) => {
        throw new Error(`"${heading}" fails`, { cause: error });
      });
      if (printed !== undefined) expect(output.trim(), heading).toMatch(patternOf(printed));
    }
  } finally {
    await operator.close();
  }
}
