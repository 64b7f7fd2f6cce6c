/**
 * Builds the executable: `dist/spire` for this machine, with `--target NAME` one for another machine, with
 * `--all` one for each target and their SHA256SUMS.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import packageFile from "../package.json" with { type: "json" };
import { capture, root, run, script } from "./run.ts";

/** Target > the npm package that holds Bun's runtime for it. */
const targets: Readonly<Record<string, string>> = {
  "linux-x64": "@oven/bun-linux-x64",
  "linux-arm64": "@oven/bun-linux-aarch64",
  "linux-x64-musl": "@oven/bun-linux-x64-musl",
  "linux-arm64-musl": "@oven/bun-linux-aarch64-musl",
  "darwin-x64": "@oven/bun-darwin-x64",
  "darwin-arm64": "@oven/bun-darwin-aarch64",
};

const dist = join(root, "dist");
const runtimeVersion = packageFile.dependencies.bun;

/** What `spire version` tells: the same for every build of one commit. */
async function buildFacts(): Promise<Record<string, string>> {
  const git = async (...args: string[]) => {
    const { exitCode, output } = await capture(["git", ...args]).catch(() => ({ exitCode: 1, output: "" }));
    return exitCode === 0 ? output.trim() : undefined;
  };
  const commit = await git("rev-parse", "--short=12", "HEAD");
  const dirty = commit !== undefined && (await git("status", "--porcelain", "--untracked-files=no")) !== "";
  return {
    BUILD_VERSION: packageFile.version,
    BUILD_COMMIT: commit === undefined ? "" : `${commit}${dirty ? "-dirty" : ""}`,
    BUILD_DATE: (commit === undefined ? undefined : await git("log", "-1", "--format=%cI")) ?? "",
  };
}

/** Checks a downloaded package against the hash in package-lock.json. @throws Error on any difference. */
async function verifyPackage(name: string, tarball: string): Promise<void> {
  const lock = JSON.parse(await readFile(join(root, "package-lock.json"), "utf8"));
  const expected: unknown = lock.packages[`node_modules/${name}`]?.integrity;
  const actual = `sha512-${createHash("sha512")
    .update(await readFile(tarball))
    .digest("base64")}`;
  if (actual !== expected) throw new Error(`${name}: the package's hash differs from package-lock.json`);
}

/** The path of the Bun runtime of a target: from the cache, else from its npm package. */
async function runtimeFor(target: string): Promise<string> {
  const packageName = targets[target] ?? "";
  const folder = join(root, ".cache", "runtimes", `${target}-${runtimeVersion}`);
  const runtime = join(folder, "bun");
  if (existsSync(runtime)) return runtime;
  await mkdir(dirname(folder), { recursive: true });
  const work = await mkdtemp(`${folder}.`);
  try {
    await run(["npm", "pack", "--silent", "--pack-destination", work, `${packageName}@${runtimeVersion}`]);
    const tarball = join(work, `${packageName.slice(1).replace("/", "-")}-${runtimeVersion}.tgz`);
    await verifyPackage(packageName, tarball);
    await run(["tar", "-xzf", tarball, "-C", work, "package/bin/bun"]);
    await mkdir(folder, { recursive: true });
    await rename(join(work, "package", "bin", "bun"), runtime);
    return runtime;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Compiles src/main.ts into `output`; with `runtime` for another machine than this one. */
async function compile(output: string, cross?: { target: string; runtime: string }): Promise<void> {
  const facts = Object.entries(await buildFacts());
  const unfinished = `${output}.new`;
  await run([
    process.execPath,
    "build",
    "--compile",
    "--bytecode",
    "--format=esm",
    // What a command doesn't import is not even read: the start grows with what is used, not with what there is.
    "--splitting",
    "--minify",
    "--sourcemap=none",
    "--reject-unresolved",
    // The executable must not act on files that happen to lie in the folder it is started in.
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    ...facts.flatMap(([name, value]) => ["--define", `${name}=${JSON.stringify(value)}`]),
    ...(cross ? [`--target=bun-${cross.target}`, `--compile-executable-path=${cross.runtime}`] : []),
    `--outfile=${unfinished}`,
    join(root, "src", "main.ts"),
  ]);
  await chmod(unfinished, 0o755);
  await rename(unfinished, output);
  console.log(`${output.slice(root.length + 1)}  ${(Bun.file(output).size / 1e6).toFixed(1)} MB`);
}

async function buildForThisMachine(): Promise<void> {
  const output = join(dist, "spire");
  await compile(output);
  const printed = await run([output, "version"]);
  if (!printed.includes(packageFile.version)) {
    throw new Error(`${output} does not print its version but: ${printed}`);
  }
}

async function buildFor(target: string): Promise<string> {
  if (!(target in targets)) {
    throw new Error(`unknown target ${target}; one of ${Object.keys(targets).join(", ")}`);
  }
  const output = join(dist, `spire-${target}`);
  await compile(output, { target, runtime: await runtimeFor(target) });
  return output;
}

/** Writes SHA256SUMS in the form that `sha256sum -c` reads. */
async function writeHashes(files: readonly string[]): Promise<void> {
  const lines = await Promise.all(
    files.map(async (file) => {
      const hash = createHash("sha256").update(await readFile(file));
      return `${hash.digest("hex")}  ${basename(file)}\n`;
    }),
  );
  await writeFile(join(dist, "SHA256SUMS"), lines.join(""));
}

script(async () => {
  const { values } = parseArgs({ options: { all: { type: "boolean" }, target: { type: "string" } } });
  await mkdir(dist, { recursive: true });
  if (values.target !== undefined) {
    await buildFor(values.target);
  } else if (values.all) {
    const files: string[] = [];
    for (const target of Object.keys(targets)) files.push(await buildFor(target));
    await writeHashes(files);
  } else {
    await buildForThisMachine();
  }
});
