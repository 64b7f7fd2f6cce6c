/** PEM of private keys. */

/** `-----BEGIN PRIVATE KEY-----` around a PKCS #8 DER (RFC 7468, section 10). */
export function formatPemKey(pkcs8: Uint8Array): string {
  const lines =
    Buffer.from(pkcs8)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`;
}
