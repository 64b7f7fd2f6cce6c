/** Metrics with TLS: who may read them, and what the listener shows of itself. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:tls";
import type { PrometheusTlsConfig, TelemetryConfig } from "../../src/config/telemetry.ts";
import { makeSpiffeId } from "../../src/core/spiffe-id.ts";
import { pemOf, type TlsIdentity } from "../../src/rpc/tls.ts";
import { startTestServer, type TestServer, trustDomain } from "./running.ts";

const telemetry = (tls: PrometheusTlsConfig): TelemetryConfig => ({
  prometheus: { host: "127.0.0.1", port: 0, tls },
  statsd: [],
  dogStatsd: [],
  prefix: "my_spire",
  trustDomainLabel: true,
  hostnameLabel: false,
  filter: { allowedPrefixes: [], blockedPrefixes: ["my_spire.datastore"], blockedLabels: [] },
});

/** What a client gets, and the names in the certificate that it is shown. */
function ask({ server }: TestServer, identity?: TlsIdentity): Promise<{ text: string; names: string }> {
  const [host = "", port] = (server.prometheusAddress ?? "").split(":");
  const options = { host, port: Number(port), rejectUnauthorized: false };
  return new Promise((resolve) => {
    let text = "";
    let names = "";
    const socket = connect({ ...options, ...(identity && pemOf(identity)) }, () => {
      names = socket.getPeerCertificate().subjectaltname ?? "";
      socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    });
    socket.on("data", (bytes) => {
      text += bytes.toString();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve({ text, names }));
  });
}

describe("with the server's own SVID and readers by SPIFFE ID", () => {
  let running: TestServer;
  beforeAll(async () => {
    const clientIds = [makeSpiffeId(trustDomain, "/prometheus")];
    running = await startTestServer({ telemetry: telemetry({ clientIds }) });
  });
  afterAll(() => running.close());

  test("a reader with the ID gets them, under the prefix and with the labels that were asked for", async () => {
    const { text, names } = await ask(running, await running.mint("/prometheus"));
    expect(names).toContain("URI:spiffe://example.org/spire/server");
    expect(text).toMatch(/^my_spire_server_ca_sign_x509_svid\{trust_domain="example_org"\} \d+$/m);
    expect(text).not.toContain("my_spire_datastore");
  });

  test("anybody else gets nothing", async () => {
    expect((await ask(running)).text).toBe("");
    expect((await ask(running, await running.mint("/other"))).text).toBe("");
  });
});
