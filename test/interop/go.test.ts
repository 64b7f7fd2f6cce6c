/** go-spiffe, and the Go program of the documentation, against `spire dev`. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { run } from "../../scripts/run.ts";
import { type Dev, executable, startDev } from "./dev.ts";
import { runForJson, startChild } from "./processes.ts";
import type { JwtSvid, X509Svid } from "./svids.ts";
import { buildGo, copyProgram } from "./toolchains.ts";

const id = (name: string) => `spiffe://example.org/${name}`;

let dev: Dev;
let documented: string;
let alice: string;
let bob: string;

beforeAll(async () => {
  documented = await buildGo("docs/examples/go", "go-documented");
  const peer = await buildGo("test/interop/go", "go-peer");
  alice = await copyProgram(peer, "go-alice");
  bob = await copyProgram(peer, "go-bob");
  dev = await startDev([
    { spiffe_id: id("documented"), selectors: [executable(documented)] },
    { spiffe_id: id("alice"), selectors: [executable(alice)] },
    // 20 s and the 10 s of back-dating: half of it has passed 5 s after the issuance.
    { spiffe_id: id("bob"), selectors: [executable(bob)], x509_svid_ttl: 20 },
  ]);
});

afterAll(async () => {
  await dev?.[Symbol.asyncDispose]();
});

test("the Go program of the documentation gets its SVIDs", async () => {
  const printed = await run([documented], { env: dev.facts.env });
  expect(printed).toContain(`X.509-SVID: ${id("documented")}\n`);
  expect(printed).toContain(`JWT-SVID: ${id("documented")} for [my-service]\n`);
});

test("go-spiffe fetches and verifies an X.509-SVID", async () => {
  const svids = (await runForJson([alice, "x509"], dev.facts.env)) as X509Svid[];
  expect(svids.map((svid) => svid.id)).toEqual([id("alice")]);
});

test("go-spiffe fetches a JWT-SVID that the Workload API and the bundle confirm", async () => {
  const svids = (await runForJson([alice, "jwt", "audience"], dev.facts.env)) as JwtSvid[];
  expect(svids.map((svid) => svid.id)).toEqual([id("alice")]);
  expect(svids[0]?.validated_by).toEqual({ api: id("alice"), bundle: id("alice") });
});

test("go-spiffe watches a rotation", async () => {
  await using watcher = startChild([bob, "watch"], dev.facts.env);
  const [first] = (await watcher.next()) as X509Svid[];
  const [second] = (await watcher.next()) as X509Svid[];
  expect(second?.id).toBe(id("bob"));
  expect(second?.serial).not.toBe(first?.serial);
});

test("two workloads connect by mTLS", async () => {
  await using server = startChild([alice, "serve", id("bob")], dev.facts.env);
  const address = String(await server.next());
  const answer = await runForJson([bob, "dial", address, id("alice")], dev.facts.env);
  expect(answer).toBe(`${id("bob")} says hello\n`);
  expect(await server.next()).toBe(id("bob"));
});

test("a workload refuses another than it expects", async () => {
  await using server = startChild([alice, "serve", id("bob")], dev.facts.env);
  const address = String(await server.next());
  await using client = startChild([bob, "dial", address, id("carol")], dev.facts.env);
  expect(await client.exited).toBe(1);
  expect(client.stderr()).toContain('unexpected ID "spiffe://example.org/alice"');
});
