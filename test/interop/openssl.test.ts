/** openssl accepts every certificate chain that `spire dev` hands out or shows. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../scripts/run.ts";
import { binary, type Dev, sameUser, startDev } from "./dev.ts";
import { temporaryFolder } from "./folders.ts";

const workloads = ["spiffe://example.org/one", "spiffe://example.org/two"];

let dev: Dev;

beforeAll(async () => {
  dev = await startDev(workloads.map((spiffe_id) => ({ spiffe_id, selectors: [sameUser] })));
});

afterAll(async () => {
  await dev?.[Symbol.asyncDispose]();
});

/** What openssl says of a chain in PEM, leaf first; it must be in order by the strict rules of X.509. */
const verify = (authorities: string, chain: string) =>
  run(["openssl", "verify", "-x509_strict", "-CAfile", authorities, "-untrusted", chain, chain]);

const text = (certificate: string) => run(["openssl", "x509", "-in", certificate, "-noout", "-text"]);

test("each X.509-SVID of the Workload API verifies, names its workload and has its key", async () => {
  await using folder = await temporaryFolder();
  const socket = dev.facts.workload_api_socket;
  await run([binary, "agent", "api", "fetch", "x509", "-socketPath", socket, "-write", folder.path]);
  const found = (await readdir(folder.path)).filter((name) => /^svid\.\d+\.pem$/.test(name)).sort();
  expect(found).toHaveLength(workloads.length);
  const names = found.map(async (name) => {
    const certificate = join(folder.path, name);
    const authorities = certificate.replace("svid.", "bundle.");
    expect(await verify(authorities, certificate)).toBe(`${certificate}: OK\n`);
    const key = await run(["openssl", "pkey", "-in", certificate.replace(/pem$/, "key"), "-pubout"]);
    expect(await run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"])).toBe(key);
    return /URI:(\S+)/.exec(await text(certificate))?.[1] ?? "";
  });
  expect((await Promise.all(names)).sort()).toEqual(workloads);
});

test("a minted X.509-SVID verifies", async () => {
  await using folder = await temporaryFolder();
  const socket = dev.facts.server_socket;
  const id = "spiffe://example.org/minted";
  await run([
    ...[binary, "server", "x509", "mint", "-socketPath", socket, "-spiffeID", id],
    ...["-dns", "minted.example.org", "-write", folder.path],
  ]);
  const certificate = join(folder.path, "svid.pem");
  expect(await verify(join(folder.path, "bundle.pem"), certificate)).toBe(`${certificate}: OK\n`);
  expect(await text(certificate)).toContain(`DNS:minted.example.org, URI:${id}`);
});

test("the server's own chain verifies by the bundle file that dev writes", async () => {
  const { server_address: address, bundle_path: authorities } = dev.facts;
  const printed = await run([
    ...["openssl", "s_client", "-connect", address, "-alpn", "h2", "-brief"],
    ...["-CAfile", authorities, "-x509_strict", "-verify_return_error"],
  ]);
  expect(printed).toContain("Verification: OK");
  expect(printed).toContain("Protocol version: TLSv1.3");
});
