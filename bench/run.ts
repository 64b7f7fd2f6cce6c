/**
 * `npm run bench`: measures dist/spire, with the load in other processes, and prints a table. It judges nothing.
 * `npm run bench -- TEXT…` takes only the rows whose names contain one of the texts; `--json` prints JSON.
 */
import { cpus, release, totalmem } from "node:os";
import { parseArgs } from "node:util";
import packageFile from "../package.json" with { type: "json" };
import { run, script } from "../scripts/run.ts";
import { type Row, type Summary, summarise } from "./row.ts";
import { memoryRows } from "./rows/memory.ts";
import { createPropagationRows } from "./rows/propagation.ts";
import { startupRows } from "./rows/startup.ts";

const rows = (): readonly Row[] => [...startupRows, ...createPropagationRows(), ...memoryRows];

interface Result extends Summary {
  readonly name: string;
  readonly unit: string;
}

const figures = ["median", "p95", "minimum", "maximum", "samples"] as const;

const nameWidth = 46;

function printHeading(): void {
  const [cpu] = cpus();
  const machine = `${cpus().length} x ${cpu?.model ?? "unknown processor"}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB`;
  console.log(`spire ${packageFile.version} on ${machine}, ${process.platform} ${release()}\n`);
  console.log(`${"".padEnd(nameWidth)}unit ${figures.map((figure) => figure.padStart(9)).join("")}`);
}

function printResult(result: Result): void {
  const cells = figures.map((figure) => {
    const value = result[figure];
    return (figure === "samples" ? String(value) : value.toFixed(1)).padStart(9);
  });
  console.log(`${result.name.padEnd(nameWidth)}${result.unit.padEnd(5)}${cells.join("")}`);
}

script(async () => {
  const { values, positionals } = parseArgs({
    options: { json: { type: "boolean" } },
    allowPositionals: true,
  });
  const wanted = rows().filter(
    ({ name }) => positionals.length === 0 || positionals.some((text) => name.includes(text)),
  );
  await run(["npm", "run", "--silent", "build"]);
  if (!values.json) printHeading();
  const results: Result[] = [];
  for (const row of wanted) {
    const result = { name: row.name, unit: row.unit, ...summarise(await row.run()) };
    results.push(result);
    if (!values.json) printResult(result);
  }
  if (values.json) console.log(JSON.stringify(results));
});
