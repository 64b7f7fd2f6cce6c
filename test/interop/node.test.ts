/** The Node.js program of the documentation against `spire dev`. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import packageFile from "../../docs/examples/node/package.json" with { type: "json" };
import projectFile from "../../package.json" with { type: "json" };
import { root, run } from "../../scripts/run.ts";
import { sameUser, startDev } from "./dev.ts";

const workload = "spiffe://example.org/node";

test("the Node.js program of the documentation gets its SVIDs", async () => {
  await using dev = await startDev([{ spiffe_id: workload, selectors: [sameUser] }]);
  const printed = await run(["node", join(root, "docs/examples/node/main.mjs")], { env: dev.facts.env });
  expect(printed).toContain(`X.509-SVID: ${workload}\n`);
  expect(printed).toContain(`JWT-SVID: ${workload} for my-service\n`);
});

test("the documentation names the packages that are tested", () => {
  const tested = { ...projectFile.dependencies, ...projectFile.devDependencies };
  expect(tested).toMatchObject(packageFile.dependencies);
});
