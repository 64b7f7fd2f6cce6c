/** Private keys of authorities as their owners keep them: PEM, of more kinds than a server makes itself. */
import { createPrivateKey, createPublicKey, type KeyObject, sign as nodeSign } from "node:crypto";
import { invalidArgument, SpireError } from "../errors.ts";
import { exportPublicKeyInfo } from "../keys.ts";
import { encode, encodeOid, tags } from "./der.ts";
import type { CertificateKey } from "./issue.ts";

/** A private key that is never seen, with its public half. */
export interface CaKey extends CertificateKey {
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array;
}

interface Signing {
  readonly hash: string;
  /** DER AlgorithmIdentifier (RFC 5758, 3.2; RFC 4055, 5). */
  readonly algorithm: Uint8Array;
}

const ecdsa = (hash: string, oid: string): Signing => ({
  hash,
  algorithm: encode(tags.sequence, encodeOid(oid)),
});

/** The hash follows the curve, as in Go. */
const curves: Readonly<Record<string, Signing>> = {
  prime256v1: ecdsa("sha256", "1.2.840.10045.4.3.2"),
  secp384r1: ecdsa("sha384", "1.2.840.10045.4.3.3"),
  secp521r1: ecdsa("sha512", "1.2.840.10045.4.3.4"),
};

const rsa: Signing = {
  hash: "sha256",
  algorithm: encode(tags.sequence, encodeOid("1.2.840.113549.1.1.11"), encode(tags.null)),
};

const smallestRsaBits = 2048;

/** PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) and SEC 1 (RFC 5915), by their labels. */
const privateKeyBlock = /-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----[\s\S]*?-----END \1-----/g;

/**
 * The private key of a PEM text: ECDSA on P-256, P-384 or P-521, or RSA from 2048 bits; blocks of other kinds, such
 * as EC parameters, are skipped.
 * @throws SpireError INVALID_ARGUMENT when there is none or more than one, it is encrypted, broken or of another kind.
 */
export function importCaKey(pem: string): CaKey {
  const [block, ...more] = [...pem.matchAll(privateKeyBlock)].map(([text]) => text);
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(pem)) {
    throw invalidArgument("the private key is encrypted; it must be stored without a passphrase");
  }
  if (block === undefined) {
    throw invalidArgument('there is no PEM block "PRIVATE KEY", "EC PRIVATE KEY" or "RSA PRIVATE KEY"');
  }
  if (more.length > 0) throw invalidArgument("there is more than one private key");
  const key = parse(block);
  const { hash, algorithm } = signingOf(key);
  return {
    publicKeyInfo: exportPublicKeyInfo(createPublicKey(key)),
    algorithm,
    sign: (tbs) =>
      new Promise((resolve, reject) => {
        nodeSign(hash, tbs, key, (error, signature) => {
          if (error) reject(new SpireError("INTERNAL", "failed to sign", { cause: error }));
          else resolve(signature);
        });
      }),
  };
}

function parse(block: string): KeyObject {
  try {
    return createPrivateKey({ key: block, format: "pem" });
  } catch {
    // The cause is dropped: a library may quote its input, and this input is a private key.
    throw invalidArgument("the private key is damaged");
  }
}

function signingOf(key: KeyObject): Signing {
  const { namedCurve = "", modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const type = key.asymmetricKeyType;
  const signing =
    type === "ec" ? curves[namedCurve] : type === "rsa" && modulusLength >= smallestRsaBits && rsa;
  if (signing) return signing;
  const found = `${type} ${namedCurve || modulusLength || ""}`.trim();
  throw invalidArgument(
    `the private key is of an unsupported kind (${found}): use ECDSA on P-256, P-384 or P-521, or RSA from ${smallestRsaBits} bits`,
  );
}
