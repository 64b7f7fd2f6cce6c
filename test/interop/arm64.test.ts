/** The arm64 executable works, under an emulator, with Debian's arm64 C library. */
import { beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { root, run } from "../../scripts/run.ts";
import { arm64Libraries } from "../../scripts/suites.ts";
import { binary, type DevFacts, runDevOf } from "./dev.ts";
import { temporaryFolder } from "./folders.ts";

const emulated = ["qemu-aarch64-static", "-L", arm64Libraries, join(root, "dist/spire-linux-arm64")];
const fetchFrom = (socket: string) => ["agent", "api", "fetch", "x509", "-socketPath", socket];

beforeAll(async () => {
  await run([process.execPath, join(root, "scripts/build-binaries.ts"), "--target", "linux-arm64"]);
});

test("the linux arm64 executable prints its version", async () => {
  const printed = await run([...emulated, "version"]);
  expect(printed).toContain(`spire ${packageFile.version} (linux-arm64`);
});

test("its dev mode gives SVIDs to clients of both architectures", async () => {
  await using folder = await temporaryFolder();
  const identity = "spiffe://example.org/workload";
  const entry = `${identity}=unix:uid:${process.getuid?.() ?? 0}`;
  await using dev = runDevOf(emulated, folder.path, "--entry", entry);
  const facts = (await dev.next()) as DevFacts;
  for (const client of [emulated, [binary]]) {
    const printed = await run([...client, ...fetchFrom(facts.workload_api_socket)]);
    expect(printed).toContain(`SPIFFE ID:\t\t${identity}\n`);
  }
});
