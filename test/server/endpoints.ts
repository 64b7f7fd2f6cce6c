/** Certificates and scripted HTTPS servers for what fetches bundles. */
import type { Socket } from "node:net";
import { createServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import { systemClock, unixSeconds } from "../../src/core/clock.ts";
import { exportPublicKeyInfo, generateKey } from "../../src/core/keys.ts";
import { makeSpiffeId, type TrustDomain } from "../../src/core/spiffe-id.ts";
import { emptyBundle, formatPemBundle, type TrustBundle } from "../../src/core/trust-bundle.ts";
import { createIssuer, issueSelfSignedCa, issueWorkloadSvid } from "../../src/core/x509/issue.ts";
import { pemOf, type TlsIdentity } from "../../src/rpc/tls.ts";

/** A trust domain that is nothing but a CA. */
export interface TestDomain {
  readonly bundle: TrustBundle;
  /** PEM. */
  readonly root: string;
  /** An SVID that is a Web certificate as well, when it has DNS names. */
  identity(path: string, dnsNames?: readonly string[]): Promise<TlsIdentity>;
}

export async function createDomain(trustDomain: TrustDomain): Promise<TestDomain> {
  const key = await generateKey("ec-p256");
  const now = unixSeconds(systemClock);
  const ca = await issueSelfSignedCa({ key, trustDomain, ttlSeconds: 3_600 }, now);
  const issuer = createIssuer(key, ca.der, []);
  const bundle = { ...emptyBundle(trustDomain), x509Authorities: [{ der: ca.der, tainted: false }] };
  return {
    bundle,
    root: formatPemBundle(bundle),
    async identity(path, dnsNames = []) {
      const { publicKey, privateKey } = await generateKey("ec-p256");
      const publicKeyInfo = exportPublicKeyInfo(publicKey);
      const request = { spiffeId: makeSpiffeId(trustDomain, path), publicKeyInfo, dnsNames, ttlSeconds: 600 };
      const { der } = await issueWorkloadSvid(issuer, request, now);
      return { chain: [der], privateKey };
    },
  };
}

export interface ScriptedServer {
  readonly port: number;
  /** Requests that came, as they were. */
  readonly requests: readonly string[];
  close(): void;
}

/** Answers each request by what `script` writes to its connection. */
export async function serveScripted(
  identity: TlsIdentity,
  script: (socket: TLSSocket, request: string) => void,
  options: SecureContextOptions = {},
): Promise<ScriptedServer> {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ ...pemOf(identity), ...options }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", (bytes: Buffer) => {
      requests.push(bytes.toString());
      script(socket, bytes.toString());
    });
  });
  // A client that refuses the certificate leaves in the middle of the handshake.
  server.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    requests,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
