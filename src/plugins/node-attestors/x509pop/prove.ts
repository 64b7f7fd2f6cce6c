/** The agent's half of x509pop: shows a certificate and signs the server's challenge with its key. */
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { readFile } from "node:fs/promises";
import { SpireError } from "../../../core/errors.ts";
import { exportPublicKeyInfo } from "../../../core/keys.ts";
import { parseCertificate, readPemCertificates } from "../../../core/x509/certificate.ts";
import { reasonOf } from "../../../files/failure.ts";
import type { NodeProver } from "../index.ts";
import { answerChallenge, decodeChallenge, encodePayload, keyKindOf } from "./messages.ts";

/** A certificate with its key. */
export interface NodeCredential {
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
}

/** Asked at each attestation. */
export type CredentialSource = (signal: AbortSignal) => Promise<NodeCredential>;

/**
 * Loads its credential at each attestation, so that a new certificate needs no restart.
 * `prove` throws SpireError FAILED_PRECONDITION for one that can't be loaded or used, INVALID_ARGUMENT for a
 * challenge that is none.
 */
export const createX509popProver = (load: CredentialSource): NodeProver => ({
  name: "x509pop",
  async *prove(signal) {
    const { chain, privateKey } = await load(signal);
    const kind = keyKindOf(privateKey);
    if (!kind) throw unusable(`unsupported private key type ${privateKey.asymmetricKeyType}`);
    const challenge = yield encodePayload(chain);
    yield answerChallenge(privateKey, decodeChallenge(challenge, kind));
  },
});

export interface CredentialFiles {
  /** PEM; the leaf first. */
  readonly certificatePath: string;
  /** PEM: PKCS #8, PKCS #1 or SEC 1, unencrypted. */
  readonly privateKeyPath: string;
  /** PEM. */
  readonly intermediatesPath?: string;
}

/** @throws SpireError FAILED_PRECONDITION that names the file; also when the key is not the certificate's. */
export async function readCredential(files: CredentialFiles): Promise<NodeCredential> {
  const { certificatePath, privateKeyPath, intermediatesPath } = files;
  const chain = await readCertificates(certificatePath, "certificate");
  const privateKey = await readPrivateKey(privateKeyPath);
  const intermediates = intermediatesPath
    ? await readCertificates(intermediatesPath, "intermediate certificates")
    : [];
  const [leaf = new Uint8Array()] = chain;
  const publicKeyInfo = exportPublicKeyInfo(createPublicKey(privateKey));
  if (Buffer.compare(publicKeyInfo, parseCertificate(leaf).publicKeyInfo) !== 0) {
    throw unusable(`private key "${privateKeyPath}" is not the key of certificate "${certificatePath}"`);
  }
  return { chain: [...chain, ...intermediates], privateKey };
}

const unusable = (reason: string, cause?: unknown): SpireError =>
  new SpireError("FAILED_PRECONDITION", `x509pop: ${reason}`, { cause });

async function readCertificates(path: string, what: string): Promise<readonly Uint8Array[]> {
  try {
    return readPemCertificates(await readFile(path, "utf8"));
  } catch (cause) {
    throw unusable(`unable to load ${what} "${path}": ${reasonOf(cause)}`, cause);
  }
}

const keyBlock = /-----BEGIN (?:(?:EC|RSA) )?PRIVATE KEY-----[^-]*-----END (?:(?:EC|RSA) )?PRIVATE KEY-----/;

/** Blocks of other kinds are passed over: `openssl ecparam` writes one before the key. */
async function readPrivateKey(path: string): Promise<KeyObject> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw unusable(`unable to load private key "${path}": ${reasonOf(cause)}`, cause);
  }
  try {
    const [pem = ""] = keyBlock.exec(text) ?? [];
    return createPrivateKey(pem);
  } catch {
    // The cause is dropped: a library may quote its input, and this input is a private key.
    throw unusable(`private key "${path}" is not an unencrypted private key in PEM`);
  }
}
