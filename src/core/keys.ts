/** Key types, and what a signing key is: local, or behind a key management service. */
import type { KeyObject } from "node:crypto";

/** Names as in SPIRE's configuration. */
export type KeyType = "ec-p256" | "ec-p384" | "rsa-2048" | "rsa-4096";

export const keyTypes: readonly KeyType[] = ["ec-p256", "ec-p384", "rsa-2048", "rsa-4096"];

/** How an ECDSA signature is written: DER for X.509 (RFC 3279), r‖s for JWS (RFC 7518, 3.4). RSA has one form. */
export type SignatureFormat = "der" | "ieee-p1363";

/**
 * A private key that signs and is never seen. The hash follows the key: SHA-256 for P-256 and RSA
 * (PKCS #1 v1.5), SHA-384 for P-384.
 */
export interface SigningKey {
  readonly type: KeyType;
  readonly publicKey: KeyObject;
  sign(data: Uint8Array, format: SignatureFormat): Promise<Uint8Array>;
}

/** A signing key whose private half is in this process, as TLS and the Workload API need it. */
export interface LocalKey extends SigningKey {
  readonly privateKey: KeyObject;
}
