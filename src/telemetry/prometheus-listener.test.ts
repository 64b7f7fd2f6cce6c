import { afterEach, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect as connectTcp, type Socket } from "node:net";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { gunzipSync } from "node:zlib";
import { systemClock, unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, generateKey, type LocalKey } from "../core/keys.ts";
import { nullLogger } from "../core/log.ts";
import { makeSpiffeId, parseTrustDomain } from "../core/spiffe-id.ts";
import { formatPemCertificates } from "../core/x509/certificate.ts";
import { createIssuer, issueSelfSignedCa, issueWorkloadSvid } from "../core/x509/issue.ts";
import { listenPrometheus, type PrometheusListener, type PrometheusTls } from "./prometheus-listener.ts";

const listeners: PrometheusListener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close();
});

async function listening(tls?: PrometheusTls, port = 0) {
  const options = { host: "127.0.0.1", port, text: () => "a 1\n", clock: systemClock, log: nullLogger };
  const listener = await listenPrometheus({ ...options, ...(tls && { tls }) });
  listeners.push(listener);
  return { port: Number(listener.address.split(":")[1]), address: listener.address };
}

/** All that comes until the other side ends. */
function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}

const request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

test("the head of an answer is as recorded", async () => {
  const { port } = await listening();
  const socket = connectTcp(port, "127.0.0.1", () => socket.write(request));
  const [head = "", body] = (await readAll(socket)).split("\r\n\r\n");
  const recorded = readFileSync(join(import.meta.dir, "../../test/golden/metrics/server.http.txt"), "utf8");
  const headers = (text: string) =>
    text
      .split(/\r?\n/)
      .filter((line) => /^(HTTP|Content-)/.test(line))
      .sort();
  const withoutLength = headers(head).filter((line) => !line.startsWith("Content-Length"));
  expect(withoutLength).toEqual(headers(recorded));
  expect(body).toContain("a 1\n");
});

test("every path answers, packed for who takes it so", async () => {
  const { address } = await listening();
  const plain = await fetch(`http://${address}/any/path`, { headers: { "Accept-Encoding": "identity" } });
  expect(await plain.text()).toBe("a 1\n");
  const packed = await fetch(`http://${address}/`, {
    headers: { "Accept-Encoding": "gzip" },
    decompress: false,
  });
  expect(gunzipSync(await packed.arrayBuffer()).toString()).toBe("a 1\n");
});

test("a port in use is one clear error", async () => {
  const { port } = await listening();
  const error = await listening(undefined, port).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(SpireError);
  expect(String(error)).toContain(`metrics for Prometheus: could not listen at 127.0.0.1:${port}`);
});

const trustDomain = parseTrustDomain("example.org");

async function createAuthority() {
  const caKey = await generateKey("ec-p256");
  const now = unixSeconds(systemClock);
  const ca = await issueSelfSignedCa({ key: caKey, trustDomain, ttlSeconds: 3_600 }, now);
  const issuer = createIssuer(caKey, ca.der, []);
  return {
    pem: formatPemCertificates([ca.der]),
    async issue(path: string, key: LocalKey) {
      const spiffeId = makeSpiffeId(trustDomain, path);
      const publicKeyInfo = exportPublicKeyInfo(key.publicKey);
      const svid = await issueWorkloadSvid(
        issuer,
        { spiffeId, publicKeyInfo, dnsNames: [], ttlSeconds: 600 },
        now,
      );
      return {
        cert: formatPemCertificates([svid.der]),
        key: key.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      };
    },
  };
}

describe("with TLS", () => {
  test("clients without a certificate of the right authority get nothing", async () => {
    const authority = await createAuthority();
    const stranger = await createAuthority();
    const own = await authority.issue("/server", await generateKey("ec-p256"));
    const { port } = await listening({
      context: () => ({ ...own, ca: authority.pem }),
      onChange: () => () => {},
      verify(socket) {
        if (!socket.authorized) throw new SpireError("UNAUTHENTICATED", "no");
      },
    });
    const ask = (identity: object) => {
      const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...identity }, () =>
        socket.write(request),
      );
      return readAll(socket);
    };
    expect(await ask(await authority.issue("/client", await generateKey("ec-p256")))).toContain("a 1\n");
    expect(await ask({})).toBe("");
    expect(await ask(await stranger.issue("/client", await generateKey("ec-p256")))).toBe("");
  });

  test("the certificate follows its source", async () => {
    const authority = await createAuthority();
    let own = await authority.issue("/first", await generateKey("ec-p256"));
    let changed = () => {};
    const { port } = await listening({
      context: () => own,
      onChange(listener) {
        changed = listener;
        return () => {};
      },
    });
    const shown = () =>
      new Promise<string>((resolve) => {
        const socket: TLSSocket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
          resolve(socket.getPeerCertificate().subjectaltname ?? "");
          socket.destroy();
        });
      });
    expect(await shown()).toContain("/first");
    own = await authority.issue("/second", await generateKey("ec-p256"));
    changed();
    expect(await shown()).toContain("/second");
  });
});
