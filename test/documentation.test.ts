/** The documentation says what is: its programs, links, suites and versions are the project's. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import packageFile from "../package.json" with { type: "json" };
import { root } from "../scripts/run.ts";
import { suites } from "../scripts/suites.ts";

const read = (path: string) => readFile(join(root, path), "utf8");

const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
pages.push(
  ...(await readdir(join(root, "docs"))).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`),
);

test.each(["go/main.go", "python/main.py", "node/main.mjs"])(
  "getting started shows %s as it is",
  async (program) => {
    expect(await read("docs/getting-started.md")).toContain(await read(`docs/examples/${program}`));
  },
);

test.each(pages)("all links of %s lead somewhere", async (page) => {
  const links = [...(await read(page)).matchAll(/\]\(([^)#]+)[^)]*\)/g)].map(([, target = ""]) => target);
  const local = links.filter((target) => !/^[a-z]+:/.test(target));
  expect(local.filter((target) => !existsSync(join(root, dirname(page), target)))).toEqual([]);
});

test("testing.md names every suite", async () => {
  const page = await read("docs/testing.md");
  expect(suites.map(({ name }) => name).filter((name) => !page.includes(`| \`${name}\` |`))).toEqual([]);
});

test("architecture.md gives a reason for every package, with its version", async () => {
  const rows = (await read("docs/architecture.md")).split("\n").filter((line) => line.startsWith("| "));
  const packages = Object.entries({ ...packageFile.dependencies, ...packageFile.devDependencies });
  const unexplained = packages.filter(
    ([name, version]) => !rows.some((row) => row.includes(name) && row.includes(version)),
  );
  expect(unexplained).toEqual([]);
});
