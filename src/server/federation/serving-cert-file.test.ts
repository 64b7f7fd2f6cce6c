import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { createDomain, type TestDomain } from "../../../test/server/endpoints.ts";
import { failureOf } from "../../../test/server/failure.ts";
import { createManualClock, systemClock } from "../../core/clock.ts";
import { nullLogger } from "../../core/log.ts";
import { parseTrustDomain } from "../../core/spiffe-id.ts";
import { pemOf } from "../../rpc/tls.ts";
import { type BundleEndpoint, listenBundleEndpoint } from "./bundle-endpoint.ts";
import { followServingCertFile } from "./serving-cert-file.ts";

const hour = 3_600_000;
let directory: string;
let domain: TestDomain;
let endpoint: BundleEndpoint | undefined;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "spire-serving-cert-"));
  domain = await createDomain(parseTrustDomain("example.org"));
});
afterEach(async () => {
  await endpoint?.close();
  endpoint = undefined;
  await rm(directory, { recursive: true, force: true });
});

const certPath = () => join(directory, "cert.pem");
const keyPath = () => join(directory, "key.pem");
async function writePair(name: string): Promise<void> {
  const { cert, key } = pemOf(await domain.identity("/endpoint", [name]));
  await Promise.all([writeFile(certPath(), cert), writeFile(keyPath(), key)]);
}

/** The DNS name of the certificate that a client is shown, when it holds for the Web. */
function shownName(): Promise<string> {
  const [host = "", port = ""] = endpoint?.address.split(":") ?? [];
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(port),
      ca: [domain.root],
      checkServerIdentity: () => undefined,
    });
    socket.once("secureConnect", () => {
      resolve(socket.getPeerCertificate().subjectaltname?.replace(/,? ?URI:[^,]*/g, "") ?? "");
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

test("clients are shown the files' certificate, and the next one once it is there", async () => {
  await writePair("first.test");
  const clock = createManualClock(Date.now());
  const errors: string[] = [];
  let reloads = 0;
  const log = {
    ...nullLogger,
    error: (message: string, { error }: { error?: unknown } = {}) => void errors.push(`${message}: ${error}`),
    info(message: string) {
      if (message.startsWith("Reloaded")) reloads += 1;
    },
  };
  const follow = { certPath: certPath(), keyPath: keyPath(), syncIntervalMs: hour, clock, log };
  endpoint = await listenBundleEndpoint({
    host: "127.0.0.1",
    port: 0,
    refreshHintSeconds: 60,
    certificate: await followServingCertFile(follow),
    bundle: () => domain.bundle,
    clock: systemClock,
    log: nullLogger,
  });
  /** Lets the files be looked at until it shows. */
  const untilSeen = async (happened: () => boolean) => {
    while (!happened()) await clock.advance(hour);
  };
  expect(await shownName()).toBe("DNS:first.test");

  await writeFile(keyPath(), "nonsense");
  await untilSeen(() => errors.length > 0);
  expect(errors[0]).toContain("holds no unencrypted private key");
  expect(errors[0]).not.toContain("nonsense");
  expect(await shownName()).toBe("DNS:first.test");

  await writePair("second.test");
  await untilSeen(() => reloads > 0);
  expect(await shownName()).toBe("DNS:second.test");
});

test.each([
  ["no certificate", async () => rm(certPath()), /cert\.pem" can't be read/],
  ["a certificate that is none", async () => writeFile(certPath(), "x"), /cert\.pem" holds no certificate/],
  ["no key", async () => rm(keyPath()), /key\.pem" can't be read/],
  [
    "the key of another certificate",
    async () => writeFile(keyPath(), pemOf(await domain.identity("/other")).key),
    /the key in ".*key\.pem" is not the one/,
  ],
])("%s is an error at once", async (_, spoil, message) => {
  await writePair("first.test");
  await spoil();
  const options = {
    certPath: certPath(),
    keyPath: keyPath(),
    syncIntervalMs: hour,
    clock: systemClock,
    log: nullLogger,
  };
  expect((await failureOf(followServingCertFile(options))).message).toMatch(message);
});
