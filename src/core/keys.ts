/** Key types, signing keys (local, or behind a key management service), and making, importing, exporting them. */
import {
  constants,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  KeyObject,
  sign as nodeSign,
} from "node:crypto";
import { promisify } from "node:util";
import { invalidArgument, SpireError } from "./errors.ts";

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

type KeyShape =
  | { readonly kind: "ec"; readonly curve: string; readonly hash: string }
  | { readonly kind: "rsa"; readonly bits: number; readonly hash: string };

const shapes: Record<KeyType, KeyShape> = {
  "ec-p256": { kind: "ec", curve: "prime256v1", hash: "sha256" },
  "ec-p384": { kind: "ec", curve: "secp384r1", hash: "sha384" },
  "rsa-2048": { kind: "rsa", bits: 2048, hash: "sha256" },
  "rsa-4096": { kind: "rsa", bits: 4096, hash: "sha256" },
};

const generatePair = promisify(generateKeyPair);

/** A new key; made on a thread pool, since RSA takes its time. */
export async function generateKey(type: KeyType): Promise<LocalKey> {
  const shape = shapes[type];
  const pair =
    shape.kind === "ec"
      ? await generatePair("ec", { namedCurve: shape.curve })
      : await generatePair("rsa", { modulusLength: shape.bits });
  return localKey(type, pair.privateKey, pair.publicKey);
}

/**
 * Takes a private KeyObject or PKCS #8 DER (RFC 5958).
 * @throws SpireError INVALID_ARGUMENT when it is neither or no supported type.
 */
export function importPrivateKey(key: KeyObject | Uint8Array): LocalKey {
  const privateKey = key instanceof KeyObject ? key : parsePkcs8(key);
  return localKey(keyTypeOf(privateKey), privateKey, createPublicKey(privateKey));
}

/** PKCS #8 DER, unencrypted. */
export const exportPkcs8 = (key: LocalKey): Uint8Array =>
  key.privateKey.export({ type: "pkcs8", format: "der" });

/** DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) of a public key. */
export const exportPublicKeyInfo = (publicKey: KeyObject): Uint8Array =>
  publicKey.export({ type: "spki", format: "der" });

/** @throws SpireError INVALID_ARGUMENT for a key that is none of `keyTypes`. */
export function keyTypeOf(key: KeyObject): KeyType {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  for (const type of keyTypes) {
    const shape = shapes[type];
    const matches = shape.kind === "ec" ? shape.curve === namedCurve : shape.bits === modulusLength;
    if (key.asymmetricKeyType === shape.kind && matches) return type;
  }
  throw invalidArgument(
    `unsupported key: ${key.asymmetricKeyType} ${namedCurve ?? modulusLength ?? ""}`.trim(),
  );
}

function parsePkcs8(der: Uint8Array): KeyObject {
  try {
    return createPrivateKey({ key: Buffer.from(der), type: "pkcs8", format: "der" });
  } catch {
    // The cause is dropped: a library may quote its input, and this input is a private key.
    throw invalidArgument("not a PKCS #8 private key");
  }
}

/** Node's callback form signs on a thread pool, so several cores share a burst of signatures. */
function localKey(type: KeyType, privateKey: KeyObject, publicKey: KeyObject): LocalKey {
  const { hash, kind } = shapes[type];
  const options = (format: SignatureFormat) =>
    kind === "ec"
      ? { key: privateKey, dsaEncoding: format }
      : { key: privateKey, padding: constants.RSA_PKCS1_PADDING };
  const optionsOf = { der: options("der"), "ieee-p1363": options("ieee-p1363") };
  return {
    type,
    publicKey,
    privateKey,
    sign: (data, format) =>
      new Promise((resolve, reject) => {
        nodeSign(hash, data, optionsOf[format], (error, signature) => {
          if (error) reject(new SpireError("INTERNAL", "failed to sign", { cause: error }));
          else resolve(signature);
        });
      }),
  };
}
