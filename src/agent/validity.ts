/** When an SVID of the agent or of a workload has to be replaced. */
import type { TrustBundle } from "../core/trust-bundle.ts";
import { authorityId, type Certificate, parseCertificate } from "../core/x509/certificate.ts";

export interface Validity {
  /** Unix seconds. */
  readonly notBefore: number;
  /** Unix seconds. */
  readonly notAfter: number;
}

/** Share of the half-life by which renewals of many agents and SVIDs are spread. */
const renewalSpread = 0.1;

/** Unix seconds at which an SVID is to be renewed: half of its life, ±10 %. Drawn anew by each call. */
export function renewalTime({ notBefore, notAfter }: Validity): number {
  const half = (notAfter - notBefore) / 2;
  return notBefore + half * (1 + renewalSpread * (2 * Math.random() - 1));
}

/** IDs (subject key identifiers, hex) of the authorities of a bundle that must not be relied on any more. */
export function taintedAuthorities(bundle: TrustBundle): ReadonlySet<string> {
  const tainted = bundle.x509Authorities.filter((authority) => authority.tainted);
  return new Set(tainted.map(({ der }) => authorityId(parseCertificate(der))));
}

/** IDs of the authorities that signed the certificates of a chain. */
export function issuerIds(chain: readonly Uint8Array[]): readonly string[] {
  return chain.flatMap((der) => {
    const id = parseCertificate(der).authorityKeyId;
    return id ? [Buffer.from(id).toString("hex")] : [];
  });
}

/** Whether any X.509 authority of the bundle is in force. */
export function hasLiveAuthority(bundle: TrustBundle, nowSeconds: number): boolean {
  return bundle.x509Authorities.some(({ der }) => isInForce(parseCertificate(der), nowSeconds));
}

const isInForce = (certificate: Certificate, nowSeconds: number): boolean =>
  certificate.notBefore <= nowSeconds && nowSeconds < certificate.notAfter;
