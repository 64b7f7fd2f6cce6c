/** Reads the JUnit report that `bun test` writes. */
import { relative, resolve } from "node:path";

export interface TestReport {
  readonly passed: number;
  /** `file > test`, as are the skipped ones. */
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  /** Files that ran at least one test. */
  readonly files: ReadonlySet<string>;
}

const entities: Readonly<Record<string, string>> = {
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&apos;": "'",
  "&amp;": "&",
};

const unescapeXml = (text: string): string =>
  text.replace(/&(lt|gt|quot|apos|amp);/g, (entity) => entities[entity] ?? "");

const attribute = (tag: string, name: string): string =>
  unescapeXml(new RegExp(`\\s${name}="([^"]*)"`).exec(tag)?.[1] ?? "");

/**
 * Every test case of the report counts once: as passed, failed or skipped. Files are named from `root` on, also
 * those that the report names in full, as it does after a test changed its folder.
 */
export function readJunit(xml: string, root: string): TestReport {
  let passed = 0;
  const failed: string[] = [];
  const skipped: string[] = [];
  const files = new Set<string>();
  for (const [, tag = "", body = ""] of xml.matchAll(/<testcase(\s[^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const file = relative(root, resolve(root, attribute(tag, "file")));
    const name = [file, attribute(tag, "classname"), attribute(tag, "name")]
      .filter((part) => part !== "")
      .join(" > ");
    files.add(file);
    if (/<(failure|error)[\s>/]/.test(body)) failed.push(name);
    else if (/<skipped[\s>/]/.test(body)) skipped.push(name);
    else passed += 1;
  }
  return { passed, failed, skipped, files };
}
