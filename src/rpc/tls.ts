/** TLS on the server's TCP port: an SVID for itself, an optional SVID from the client, checked once. */
import { constants, type KeyObject } from "node:crypto";
import type { SecureContextOptions, TLSSocket } from "node:tls";
import { ServerCredentials } from "@grpc/grpc-js";
import type { Clock } from "../core/clock.ts";
import { unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { type SpiffeId, type TrustDomain, trustDomainOf } from "../core/spiffe-id.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import { formatPemCertificates, parseCertificate } from "../core/x509/certificate.ts";
import { parseSvidId, verifySvidChain } from "../core/x509/verify.ts";
import type { PeerSvid } from "./service.ts";

/** What a side shows of itself. */
export interface TlsIdentity {
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
}

/** What verifies a peer. */
export type PeerBundle = Pick<TrustBundle, "x509Authorities" | "trustDomain">;

export interface ServerTls {
  identity(): TlsIdentity;
  /** Calls back after each change of `identity()`; the function returned ends that. */
  onIdentityChange(listener: () => void): () => void;
  /** Bundle of a trust domain that clients may come from; undefined refuses them. */
  bundle(trustDomain: TrustDomain): PeerBundle | undefined;
  /** False refuses a verified client by its ID; without it every one is accepted. */
  acceptId?(id: SpiffeId): boolean;
  /** Refuses key exchanges that don't withstand quantum computers. */
  readonly requirePqKem?: boolean;
  readonly clock: Clock;
}

/** Both sides: nothing older than TLS 1.2. */
export const minimumTlsVersion = "TLSv1.2";

/**
 * The least that a connection must have. Of the key exchanges that withstand quantum computers the runtime has one
 * (draft-ietf-tls-ecdhe-mlkem), which needs TLS 1.3.
 */
export const tlsFloor = (requirePqKem: boolean) =>
  requirePqKem
    ? ({ minVersion: "TLSv1.3", ecdhCurve: "X25519MLKEM768" } as const)
    : ({ minVersion: minimumTlsVersion } as const);

export interface ServerTlsCredentials {
  readonly credentials: ServerCredentials;
  /** Stops following identity changes. */
  close(): void;
}

/** Credentials that ask each client for a certificate, accept its absence, and follow `tls.identity()`. */
export function createServerTlsCredentials(tls: ServerTls): ServerTlsCredentials {
  const { requirePqKem = false } = tls;
  const credentials = new SvidServerCredentials(contextOf(tls.identity(), requirePqKem));
  return {
    credentials,
    close: tls.onIdentityChange(() => credentials.replaceContext(contextOf(tls.identity(), requirePqKem))),
  };
}

class SvidServerCredentials extends ServerCredentials {
  constructor(context: SecureContextOptions) {
    // OpenSSL's own verdict is left aside: a missing certificate is allowed, and `verifyClient` judges one.
    super({ requestCert: true, rejectUnauthorized: false, ALPNProtocols: ["h2"] }, context);
  }

  replaceContext(context: SecureContextOptions): void {
    this.updateSecureContextOptions(context);
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf(identity: TlsIdentity, requirePqKem: boolean): SecureContextOptions {
  return {
    ...pemOf(identity),
    ...tlsFloor(requirePqKem),
    // A resumed session would be reported with the certificate of the connection before it.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** An identity in the form that node:tls takes. */
export const pemOf = ({ chain, privateKey }: TlsIdentity) => ({
  cert: formatPemCertificates(chain),
  key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
});

/**
 * Who connected: undefined without a certificate.
 * @throws SpireError UNAUTHENTICATED with the reason why its certificate is refused.
 */
export function verifyClient(socket: TLSSocket, tls: ServerTls): PeerSvid | undefined {
  const chain = peerChain(socket);
  const leaf = chain[0];
  if (leaf === undefined) return undefined;
  // A resumed session would carry the certificate without proof of the key. Tickets are off; be sure.
  if (socket.isSessionReused()) throw new SpireError("UNAUTHENTICATED", "the TLS session is a resumed one");
  const trustDomain = trustDomainOf(parseSvidId(parseCertificate(leaf)));
  const bundle = tls.bundle(trustDomain);
  if (!bundle) {
    throw new SpireError("UNAUTHENTICATED", `clients from trust domain "${trustDomain}" are not accepted`);
  }
  const { id, certificate } = verifySvidChain(chain, bundle, unixSeconds(tls.clock));
  if (tls.acceptId && !tls.acceptId(id)) {
    throw new SpireError("UNAUTHENTICATED", `client "${id}" is not accepted`);
  }
  return { id, chain, serialNumber: certificate.serialNumber, expiresAt: certificate.notAfter };
}

/** The certificates that the peer sent, leaf first, DER; empty when it sent none. */
export function peerChain(socket: TLSSocket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate = socket.getPeerCertificate(true);
  // A self-signed certificate is its own issuer; ends that loop and any longer one.
  const seen = new Set<object>();
  while (certificate?.raw && !seen.has(certificate)) {
    seen.add(certificate);
    chain.push(new Uint8Array(certificate.raw));
    certificate = certificate.issuerCertificate;
  }
  return chain;
}
