/** The import rules of src/: which folder may use which, and how modules may be loaded at all. */
import { readdir, readFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { root } from "./run.ts";

/** A source file: its path below src/, and its text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

interface Import {
  readonly specifier: string;
  readonly lazy: boolean;
}

/** Folder of src/ > what its files may import of the project besides their own folder. */
const folders: Readonly<Record<string, readonly RegExp[]>> = {
  core: [],
  files: [],
  config: [/^core\//],
  rpc: [/^core\//, /^files\//],
  telemetry: [/^core\//],
  plugins: [/^core\//, /^files\//, /^config\/schema\.ts$/],
  server: [/^core\//, /^files\//, /^rpc\//, /^telemetry\//, /^plugins\/[^/]+\/index\.ts$/],
  agent: [/^core\//, /^files\//, /^rpc\//, /^telemetry\//, /^plugins\/[^/]+\/index\.ts$/],
  cli: [/^core\//, /^files\//, /^config\//, /^rpc\//],
  console: [/^core\//, /^config\//, /^rpc\//],
  modes: [/^(?!cli\/|main\.ts)/],
  "main.ts": [/^cli\//, /^modes\//],
};

/** Library > the folders that may know it: each stands behind one door. */
const libraries: Readonly<Record<string, readonly string[]>> = {
  "@grpc/grpc-js": ["rpc"],
  citty: ["cli", "main.ts"],
  consola: ["telemetry"],
  zod: ["config", "plugins"],
  "node:fs": notCore(),
  "node:net": notCore(),
  "node:tls": notCore(),
  "node:http": notCore(),
  "node:http2": notCore(),
  "node:child_process": notCore(),
};

/** core does no input or output. */
function notCore(): string[] {
  return Object.keys(folders).filter((folder) => folder !== "core");
}

/** One sentence for each broken rule, with the file it is broken in. */
export function violations(file: SourceFile): readonly string[] {
  if (file.path.startsWith("rpc/gen/")) return [];
  const found = [...shapeViolations(file)];
  const isTest = file.path.endsWith(".test.ts");
  for (const item of importsOf(file.text)) {
    const broken = item.specifier.startsWith(".")
      ? projectViolation(file.path, item, isTest)
      : libraryViolation(file.path, item, isTest);
    if (broken) found.push(`${file.path}: ${broken}`);
  }
  return found;
}

const folderOf = (path: string): string => path.split("/")[0] ?? "";

function projectViolation(from: string, { specifier, lazy }: Import, isTest: boolean): string | undefined {
  const target = posix.normalize(posix.join(posix.dirname(from), specifier));
  if (!/\.(ts|json|html|css)$/.test(target)) return `"${specifier}" needs its file's ending`;
  if (isTest || target.startsWith("../")) return undefined;
  const [own, other] = [folderOf(from), folderOf(target)];
  if (own === "main.ts" && other === "modes" && !lazy) return `"${specifier}" must be a lazy import()`;
  if (own === other) return undefined;
  const allowed = folders[own];
  if (!allowed) return `src/${own} is not in the table of import rules`;
  return allowed.some((rule) => rule.test(target)) ? undefined : `${own} must not import "${specifier}"`;
}

function libraryViolation(from: string, { specifier }: Import, isTest: boolean): string | undefined {
  if (isTest) return undefined;
  const name = Object.keys(libraries).find((key) => specifier === key || specifier.startsWith(`${key}/`));
  if (name === undefined || libraries[name]?.includes(folderOf(from))) return undefined;
  return `${folderOf(from)} must not import "${specifier}"`;
}

function* shapeViolations({ path, text }: SourceFile): Iterable<string> {
  if (/(^|\/)(utils?|common|helpers?)(\/|\.ts$)/.test(path)) yield `${path}: a name that says nothing`;
  if (/(^|\/)index\.ts$/.test(path) && !/^plugins\/[^/]+\/index\.ts$/.test(path)) {
    yield `${path}: only a plugin kind has an index.ts`;
  }
  for (const [, argument] of withoutComments(text).matchAll(/(?<![.\w])import\(\s*([^\s)])/g)) {
    if (argument !== '"') yield `${path}: import() of a computed path; the bundler cannot follow it`;
  }
}

/** Every import of a file: static, for types only, re-exported, lazy. */
function importsOf(text: string): Import[] {
  const code = withoutComments(text);
  const statics = code.matchAll(/^\s*(?:import|export)\s(?:[^"';]*?\sfrom\s+)?"([^"\n]+)"/gm);
  const lazies = code.matchAll(/(?<![.\w])import\(\s*"([^"\n]+)"/g);
  return [
    ...[...statics].map(([, specifier = ""]) => ({ specifier, lazy: false })),
    ...[...lazies].map(([, specifier = ""]) => ({ specifier, lazy: true })),
  ];
}

/** Blanks out comments; strings are kept, so that a `//` inside one is no comment. */
function withoutComments(text: string): string {
  const token = /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replace(token, (match: string, string: string | undefined) =>
    string === undefined ? "" : match,
  );
}

/**
 * Files with an `await` outside of any function: bytecode forbids it. Bundling to CommonJS, which has no such
 * thing either, finds them.
 */
async function topLevelAwaits(paths: readonly string[]): Promise<readonly string[]> {
  const entrypoints = paths.filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"));
  const result = await Bun.build({
    entrypoints: entrypoints.map((path) => join(root, "src", path)),
    format: "cjs",
    target: "bun",
    packages: "external",
    throw: false,
  });
  return result.logs
    .filter((log) => log.level === "error" && log.message.includes("await"))
    .map((log) => `${log.position?.file ?? "?"}:${log.position?.line ?? 0}: top-level await`);
}

/** All broken rules of src/. */
export async function checkImports(): Promise<readonly string[]> {
  const source = join(root, "src");
  const listed = await readdir(source, { recursive: true });
  const paths = listed.filter((path) => /\.tsx?$/.test(path)).sort();
  const files = await Promise.all(
    paths.map(async (path) => ({ path, text: await readFile(join(source, path), "utf8") })),
  );
  return [...files.flatMap(violations), ...(await topLevelAwaits(paths))];
}
