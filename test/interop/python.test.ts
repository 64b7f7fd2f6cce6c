/** py-spiffe, and the Python program of the documentation, against `spire dev`. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { root, run } from "../../scripts/run.ts";
import { type Dev, executable, startDev } from "./dev.ts";
import { runForJson, startChild } from "./processes.ts";
import type { JwtSvid, X509Svid } from "./svids.ts";
import { type Python, preparePython } from "./toolchains.ts";

const workload = "spiffe://example.org/python";
const peer = join(root, "test/interop/python/peer.py");

let python: Python;
let dev: Dev;

beforeAll(async () => {
  python = await preparePython();
  // 20 s and the 10 s of back-dating: half of it has passed 5 s after the issuance.
  dev = await startDev([
    { spiffe_id: workload, selectors: [executable(python.executable)], x509_svid_ttl: 20 },
  ]);
});

afterAll(async () => {
  await dev?.[Symbol.asyncDispose]();
});

const runPeer = (...args: string[]) => runForJson([python.command, peer, ...args], dev.facts.env);

test("the Python program of the documentation gets its SVIDs", async () => {
  const program = join(root, "docs/examples/python/main.py");
  const printed = await run([python.command, program], { env: dev.facts.env });
  expect(printed).toContain(`X.509-SVID: ${workload}\n`);
  expect(printed).toContain(`JWT-SVID: ${workload} for ['my-service']\n`);
});

test("the documentation names the packages that are tested", async () => {
  const lines = async (path: string) => (await readFile(join(root, path), "utf8")).trim().split("\n");
  const tested = await lines("test/interop/python/requirements.txt");
  const documented = await lines("docs/examples/python/requirements.txt");
  expect(documented.filter((line) => !tested.includes(line))).toEqual([]);
});

test("py-spiffe fetches an X.509-SVID", async () => {
  const svids = (await runPeer("x509")) as X509Svid[];
  expect(svids.map((svid) => svid.id)).toEqual([workload]);
  expect(svids[0]?.bundle).toHaveLength(1);
});

test("py-spiffe fetches a JWT-SVID that the Workload API and the bundle confirm", async () => {
  const svids = (await runPeer("jwt", "audience")) as JwtSvid[];
  expect(svids.map((svid) => svid.id)).toEqual([workload]);
  expect(svids[0]?.validated_by).toEqual({ api: workload, bundle: workload });
});

test("py-spiffe watches a rotation", async () => {
  await using watcher = startChild([python.command, peer, "watch"], dev.facts.env);
  const [first] = (await watcher.next()) as X509Svid[];
  const [second] = (await watcher.next()) as X509Svid[];
  expect(second?.id).toBe(workload);
  expect(second?.serial).not.toBe(first?.serial);
});
