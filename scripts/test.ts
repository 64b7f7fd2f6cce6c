/**
 * `npm test`: the checks and every suite that this machine can run. What it cannot run is listed by name;
 * with CI=true that is a failure. `npm test -- NAME…` runs only the suites of these names (`checks` included).
 */
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runChecks } from "./check.ts";
import { readJunit } from "./junit.ts";
import { root, script, stream } from "./run.ts";
import { missing, type Suite, suites } from "./suites.ts";

interface Tally {
  passed: number;
  readonly failed: string[];
  readonly skipped: string[];
  /** Suites that could not run, with the reason. */
  readonly notRun: string[];
}

/** What tests start that run the program as a user would. */
const binary = join(root, "dist", "spire");

/** No test judges time by this; it only ends a test that hangs, in ms. */
const hangMs = 60_000;

/** Which files each suite runs: a file goes to the first suite that names it. */
function assignFiles(): ReadonlyMap<Suite, readonly string[]> {
  const taken = new Set<string>();
  const filesOf = (suite: Suite) =>
    suite.files
      .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: root })])
      .filter((file) => !taken.has(file) && taken.add(file))
      .sort();
  return new Map(suites.map((suite) => [suite, filesOf(suite)]));
}

/** Builds dist/spire from the sources as they are now. */
async function buildBinary(tally: Tally): Promise<boolean> {
  const exitCode = await stream([process.execPath, join(root, "scripts/build-binaries.ts")]);
  if (exitCode !== 0) tally.failed.push("build of dist/spire");
  else tally.passed += 1;
  return exitCode === 0;
}

/** Runs files with `bun test`. A file that yields no result, as after a crash, counts as failed. */
async function runFiles(suite: Suite, files: readonly string[], tally: Tally): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), "spire-test-"));
  try {
    const report = join(work, "report.xml");
    const command = [
      process.execPath,
      "test",
      // Each file by itself in a worker process: none sees what another left behind.
      "--parallel",
      `--timeout=${hangMs}`,
      "--reporter=junit",
      `--reporter-outfile=${report}`,
      ...files.map((file) => `./${file}`),
    ];
    const exitCode = await stream(command, suite.binary ? { env: { SPIRE_BIN: binary } } : {});
    const results = readJunit(existsSync(report) ? await readFile(report, "utf8") : "", root);
    const silent = files.filter((file) => !results.files.has(file)).map((file) => `${file}: ran no test`);
    const failed = [...results.failed, ...silent];
    if (exitCode !== 0 && failed.length === 0) failed.push(`${suite.name}: exit code ${exitCode}`);
    tally.passed += results.passed;
    tally.failed.push(...failed);
    tally.skipped.push(...results.skipped);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function runChecksAsSuite(tally: Tally): Promise<void> {
  console.log("\n== checks");
  for (const { name, complaint } of await runChecks()) {
    if (complaint === "") tally.passed += 1;
    else tally.failed.push(`check: ${name}`);
  }
}

async function runSuites(wanted: ReadonlySet<string>, tally: Tally): Promise<void> {
  const plan = [...assignFiles()].filter(
    ([suite, files]) => files.length > 0 && (wanted.size === 0 || wanted.has(suite.name)),
  );
  if (plan.some(([suite]) => suite.binary) && !(await buildBinary(tally))) return;
  for (const [suite, files] of plan) {
    const lacks = missing(suite);
    if (lacks.length > 0) {
      const ways = lacks.map(({ name, get }) => `needs ${name}: ${get}`);
      tally.notRun.push(`${suite.name} (${ways.join("; ")})`);
      continue;
    }
    console.log(`\n== ${suite.name}`);
    await runFiles(suite, files, tally);
  }
}

/** Prints what was not run, skipped and failed, and the closing line; whether all is well. */
function conclude({ passed, failed, skipped, notRun }: Tally): boolean {
  const complete = process.env["CI"] === "true";
  const absent = [...notRun, ...skipped.map((name) => `${name} (skipped)`)];
  const failures = complete ? [...failed, ...absent.map((name) => `not run: ${name}`)] : failed;
  console.log("");
  if (!complete) for (const name of absent) console.log(`not run: ${name}`);
  for (const name of failures) console.log(`failed: ${name}`);
  console.log(`${passed} passed, ${failures.length} failed`);
  return failures.length === 0 && passed > 0;
}

function checkNames(wanted: ReadonlySet<string>): void {
  const known = new Set(["checks", ...suites.map(({ name }) => name)]);
  const unknown = [...wanted].filter((name) => !known.has(name));
  if (unknown.length > 0)
    throw new Error(`no such suite: ${unknown.join(", ")}; there are ${[...known].join(", ")}`);
}

script(async () => {
  const wanted = new Set(process.argv.slice(2));
  checkNames(wanted);
  const tally: Tally = { passed: 0, failed: [], skipped: [], notRun: [] };
  if (wanted.size === 0 || wanted.has("checks")) await runChecksAsSuite(tally);
  await runSuites(wanted, tally);
  if (!conclude(tally)) process.exitCode = 1;
});
