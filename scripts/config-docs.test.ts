import { expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { configurationPage } from "./config-docs.ts";
import { root } from "./run.ts";

test("docs/configuration.md says what the schemas say; npm run gen writes it", async () => {
  expect(await readFile(join(root, "docs/configuration.md"), "utf8")).toBe(configurationPage());
});
