/** A certificate and its private key as operators hand them over: PEM texts that have to belong together. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { invalidArgument } from "../errors.ts";

interface PemPairPaths {
  /** Of the certificate chain, leaf first. */
  readonly certPath: string;
  readonly keyPath: string;
}

/**
 * Causes are dropped: a library may quote its input, and this input is a private key.
 * @throws SpireError INVALID_ARGUMENT that names the file at fault.
 */
export function checkPemPair(cert: string, key: string, { certPath, keyPath }: PemPairPaths): void {
  const certificate = attempt(() => new X509Certificate(cert));
  if (!certificate) throw invalidArgument(`"${certPath}" holds no certificate in PEM`);
  const privateKey = attempt(() => createPrivateKey(key));
  if (!privateKey) throw invalidArgument(`"${keyPath}" holds no unencrypted private key in PEM`);
  if (!certificate.checkPrivateKey(privateKey)) {
    throw invalidArgument(`the key in "${keyPath}" is not the one of the certificate in "${certPath}"`);
  }
}

function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}
