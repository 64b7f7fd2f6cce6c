/** Trust bundles: the public authorities of a trust domain (SPIFFE Trust Domain and Bundle standard). */
import type { TrustDomain } from "./spiffe-id.ts";

export interface X509Authority {
  readonly der: Uint8Array;
  readonly tainted: boolean;
}

/** A public key that verifies JWT-SVIDs or WIT-SVIDs. */
export interface TokenAuthority {
  readonly keyId: string;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
  /** Unix seconds; 0 = not stated. */
  readonly expiresAt: number;
  readonly tainted: boolean;
}

export interface TrustBundle {
  readonly trustDomain: TrustDomain;
  readonly x509Authorities: readonly X509Authority[];
  readonly jwtAuthorities: readonly TokenAuthority[];
  readonly witAuthorities: readonly TokenAuthority[];
  /** Seconds; 0 = not stated. */
  readonly refreshHint: number;
  /** Grows with each change. */
  readonly sequenceNumber: number;
}
