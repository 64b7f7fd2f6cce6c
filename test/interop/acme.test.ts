/** The bundle endpoint gets its certificate from a real ACME service, Let's Encrypt's Pebble. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdir, readFile, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { connect } from "node:tls";
import type { WebCertificateConfig } from "../../src/config/server-config.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { type Logger, nullLogger } from "../../src/core/log.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { openBundleEndpoint } from "../../src/modes/server/bundle-endpoint.ts";
import type { BundleEndpoint } from "../../src/server/federation/bundle-endpoint.ts";
import { createDomain, type TestDomain } from "../server/endpoints.ts";
import { temporaryFolder } from "./folders.ts";
import { type Child, startChild } from "./processes.ts";
import { buildGo } from "./toolchains.ts";

const trustDomain = parseTrustDomain("example.org");
const domainName = "bundles.example.org";

let port: number;
let pebble: Child;
let service: { directory: string; root: string; issuedRoot: string };
let domain: TestDomain;
beforeAll(async () => {
  domain = await createDomain(trustDomain);
  port = await freePort();
  // Nonces are refused now and then, as a service may at any time.
  const env = { PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "15" };
  pebble = startChild([await buildGo("test/interop/pebble", "pebble"), String(port)], env);
  service = (await pebble.next()) as typeof service;
}, 300_000);
afterAll(() => pebble?.[Symbol.asyncDispose]());

/** Below those that the system gives to whoever asks for any, as this one is taken again and again. */
async function freePort(): Promise<number> {
  for (;;) {
    const candidate = 20_000 + Math.floor(Math.random() * 10_000);
    const isFree = await new Promise<boolean>((resolve) => {
      const server = createServer().once("error", () => resolve(false));
      server.listen(candidate, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (isFree) return candidate;
  }
}

interface Opened {
  readonly endpoint: BundleEndpoint;
  /** How the first order ended: `ok`, or the error. */
  readonly ordered: Promise<string>;
}

async function open(
  dataDir: string,
  {
    clock = systemClock,
    ...changes
  }: Partial<Extract<WebCertificateConfig, { type: "acme" }>> & { clock?: Clock } = {},
): Promise<Opened> {
  const ordered = Promise.withResolvers<string>();
  const log: Logger = {
    ...nullLogger,
    info: (message) => message.startsWith("Got ") && ordered.resolve("ok"),
    error: (_, fields) => ordered.resolve(String(fields?.["error"])),
  };
  const identity = await domain.identity("/server");
  const endpoint = await openBundleEndpoint({
    endpoint: {
      address: "127.0.0.1",
      port,
      webCertificate: {
        type: "acme",
        directoryUrl: service.directory,
        domainName,
        email: "operator@example.org",
        tosAccepted: true,
        ...changes,
      },
    },
    dataDir,
    webRoots: [service.root],
    identity: { current: () => identity, onChange: () => () => {} },
    bundle: () => domain.bundle,
    clock,
    log,
  });
  return { endpoint, ordered: ordered.promise };
}

/** The serial number of what a client of the Web is shown, and the status line. @throws Error for a certificate that doesn't hold. */
function ask(): Promise<{ readonly serial: string; readonly answer: string }> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, servername: domainName, ca: [service.issuedRoot] });
    let answer = "";
    let serial = "";
    socket.once("secureConnect", () => {
      serial = socket.getPeerCertificate().serialNumber;
      socket.write(`GET / HTTP/1.1\r\nHost: ${domainName}\r\nConnection: close\r\n\r\n`);
    });
    socket.on("data", (bytes: Buffer) => {
      answer += bytes.toString();
    });
    socket.on("error", reject);
    socket.once("close", () =>
      serial === "" ? reject(new Error("closed before the handshake")) : resolve({ serial, answer }),
    );
  });
}

test("the endpoint is validated within TLS, gets a certificate, and keeps it", async () => {
  await using folder = await temporaryFolder();
  const first = await open(folder.path);
  expect(await ask().catch((error) => error)).toBeInstanceOf(Error);
  expect(await first.ordered).toBe("ok");
  const { serial, answer } = await ask();
  expect(answer).toStartWith("HTTP/1.1 200 OK\r\n");
  await first.endpoint.close();

  const directory = join(folder.path, "bundle-acme");
  expect((await readdir(directory)).sort()).toEqual(["account_key.pem", `${domainName}.pem`]);
  for (const name of await readdir(directory)) {
    expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
  }
  expect((await stat(directory)).mode & 0o777).toBe(0o700);

  const account = await readFile(join(directory, "account_key.pem"), "utf8");
  const again = await open(folder.path);
  expect((await ask()).serial).toBe(serial);
  await again.endpoint.close();
  expect(await readFile(join(directory, "account_key.pem"), "utf8")).toBe(account);
}, 60_000);

test("a certificate is renewed once no more than a third of its life is left", async () => {
  await using folder = await temporaryFolder();
  const first = await open(folder.path);
  expect(await first.ordered).toBe("ok");
  const { serial } = await ask();
  await first.endpoint.close();
  const inDays = (days: number): Clock => ({
    now: () => systemClock.now() + days * 86_400_000,
    after: systemClock.after,
  });
  const held = await open(folder.path, { clock: inDays(59) });
  expect((await ask()).serial).toBe(serial);
  await held.endpoint.close();
  const renewed = await open(folder.path, { clock: inDays(61) });
  expect(await renewed.ordered).toBe("ok");
  expect((await ask()).serial).not.toBe(serial);
  await renewed.endpoint.close();
}, 60_000);

test("terms that nobody accepted are named, and nothing is asked for", async () => {
  await using folder = await temporaryFolder();
  const { endpoint, ordered } = await open(folder.path, { tosAccepted: false });
  expect(await ordered).toContain("tos_accepted = true");
  await endpoint.close();
}, 60_000);

test("a service that refuses says why", async () => {
  await using folder = await temporaryFolder();
  const { endpoint, ordered } = await open(folder.path, { email: "no address" });
  expect(await ordered).toContain("urn:ietf:params:acme:error:invalidContact");
  await endpoint.close();
}, 60_000);
