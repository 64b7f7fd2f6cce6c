/** Signature algorithms of certificates (RFC 3279, 4055, 5758, 8410): identifiers, and verifying with them. */
import { constants, type KeyObject, verify } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import type { KeyType } from "../keys.ts";
import { DerReader, encode, encodeOid, readOid, readOnly, tags, unsignedBytes } from "./der.ts";

interface Algorithm {
  readonly hash: string | null;
  readonly keyKind: "ec" | "rsa" | "ed25519";
}

const algorithms: Readonly<Record<string, Algorithm>> = {
  "1.2.840.10045.4.3.2": { hash: "sha256", keyKind: "ec" },
  "1.2.840.10045.4.3.3": { hash: "sha384", keyKind: "ec" },
  "1.2.840.10045.4.3.4": { hash: "sha512", keyKind: "ec" },
  "1.2.840.113549.1.1.11": { hash: "sha256", keyKind: "rsa" },
  "1.2.840.113549.1.1.12": { hash: "sha384", keyKind: "rsa" },
  "1.2.840.113549.1.1.13": { hash: "sha512", keyKind: "rsa" },
  "1.3.101.112": { hash: null, keyKind: "ed25519" },
};

const rsaPss = "1.2.840.113549.1.1.10";

const pssHashes: Readonly<Record<string, { readonly hash: string; readonly size: number }>> = {
  "2.16.840.1.101.3.4.2.1": { hash: "sha256", size: 32 },
  "2.16.840.1.101.3.4.2.2": { hash: "sha384", size: 48 },
  "2.16.840.1.101.3.4.2.3": { hash: "sha512", size: 64 },
};

const mgf1 = "1.2.840.113549.1.1.8";

/** ECDSA identifiers have no parameters, RSA ones a NULL. */
const rsaSha256 = encode(tags.sequence, encodeOid("1.2.840.113549.1.1.11"), encode(tags.null));

const identifiers: Readonly<Record<KeyType, Uint8Array>> = {
  "ec-p256": encode(tags.sequence, encodeOid("1.2.840.10045.4.3.2")),
  "ec-p384": encode(tags.sequence, encodeOid("1.2.840.10045.4.3.3")),
  "rsa-2048": rsaSha256,
  "rsa-4096": rsaSha256,
};

/** DER AlgorithmIdentifier of the signatures that a key of this type makes. */
export const signatureAlgorithm = (type: KeyType): Uint8Array => identifiers[type];

/**
 * Whether `key` made `signature` over `data` by the algorithm of a DER AlgorithmIdentifier.
 * @throws SpireError INVALID_ARGUMENT for an algorithm that is unknown or too weak.
 */
export function verifySignature(
  algorithmDer: Uint8Array,
  data: Uint8Array,
  key: KeyObject,
  signature: Uint8Array,
): boolean {
  const reader = new DerReader(readOnly(algorithmDer).content);
  const oid = readOid(reader.read(tags.oid));
  if (oid === rsaPss) return verifyPss(reader, data, key, signature);
  const algorithm = algorithms[oid];
  if (!algorithm) throw invalidArgument(`signature algorithm ${oid} is not supported`);
  if (key.asymmetricKeyType !== algorithm.keyKind) return false;
  return verify(algorithm.hash, data, key, signature);
}

/** RFC 4055, 3.1, with one hash throughout and a salt of its size, as RFC 5756 and TLS 1.3 want it. */
function verifyPss(reader: DerReader, data: Uint8Array, key: KeyObject, signature: Uint8Array): boolean {
  const parameters = reader.enter();
  const hashOid = readOid(parameters.enter(0xa0).enter().read(tags.oid));
  const mask = parameters.enter(0xa1).enter();
  const maskOid = readOid(mask.read(tags.oid));
  const maskHashOid = readOid(mask.enter().read(tags.oid));
  const salt = unsignedBytes(parameters.enter(0xa2).read(tags.integer));
  const known = pssHashes[hashOid];
  if (!known || maskOid !== mgf1 || maskHashOid !== hashOid || salt.length !== 1 || salt[0] !== known.size) {
    throw invalidArgument("RSASSA-PSS parameters are not supported");
  }
  if (key.asymmetricKeyType !== "rsa") return false;
  const options = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: known.size };
  return verify(known.hash, data, options, signature);
}
