/** A Python workload and a Go workload connect by mTLS, either being the server. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { root } from "../../scripts/run.ts";
import { type Dev, executable, startDev } from "./dev.ts";
import { runForJson, startChild } from "./processes.ts";
import { buildGo, preparePython } from "./toolchains.ts";

const pythonId = "spiffe://example.org/python";
const goId = "spiffe://example.org/go";

let dev: Dev;
let pythonPeer: readonly string[];
let goPeer: readonly string[];

beforeAll(async () => {
  const python = await preparePython();
  const program = await buildGo("test/interop/go", "go-peer");
  pythonPeer = [python.command, join(root, "test/interop/python/peer.py")];
  goPeer = [program];
  dev = await startDev([
    { spiffe_id: pythonId, selectors: [executable(python.executable)] },
    { spiffe_id: goId, selectors: [executable(program)] },
  ]);
});

afterAll(async () => {
  await dev?.[Symbol.asyncDispose]();
});

test("a Go client connects to a Python server", async () => {
  await using server = startChild([...pythonPeer, "serve", goId], dev.facts.env);
  const address = String(await server.next());
  expect(await runForJson([...goPeer, "dial", address, pythonId], dev.facts.env)).toBe(
    `${goId} says hello\n`,
  );
});

test("a Python client connects to a Go server", async () => {
  await using server = startChild([...goPeer, "serve", pythonId], dev.facts.env);
  const address = String(await server.next());
  expect(await runForJson([...pythonPeer, "dial", address, goId], dev.facts.env)).toBe(
    `${pythonId} says hello\n`,
  );
});
