/** Validation of a domain name within TLS (RFC 8737): the certificate that answers it, and connections that ask for it. */
import { createHash, randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { exportPublicKeyInfo, generateKey, type LocalKey } from "../../../core/keys.ts";
import { signatureAlgorithm } from "../../../core/x509/algorithms.ts";
import { formatPemCertificates } from "../../../core/x509/certificate.ts";
import {
  constructed,
  encode,
  encodeBitString,
  encodeTime,
  encodeUnsigned,
  tags,
} from "../../../core/x509/der.ts";
import { encodeAlternativeNames, encodeExtension, extensionOids } from "../../../core/x509/extensions.ts";
import { encodeName } from "../../../core/x509/name.ts";
import type { PemPair } from "../endpoint-certificate.ts";

/** The protocol name by which a validation is told from a client (RFC 8737, section 6.2). */
export const acmeProtocol = "acme-tls/1";

const acmeIdentifier = "1.3.6.1.5.5.7.1.31";
const lifetimeSeconds = 7 * 86_400;

/** A self-signed certificate that carries the digest of a challenge's key authorization (RFC 8737, section 3). */
export async function createChallengeCertificate(
  domainName: string,
  keyAuthorization: string,
  nowSeconds: number,
): Promise<PemPair> {
  const key = await generateKey("ec-p256");
  const digest = createHash("sha256").update(keyAuthorization).digest();
  const name = encodeName({ commonName: [domainName] });
  const names = encodeAlternativeNames([domainName], []);
  const extensions = encode(
    tags.sequence,
    encodeExtension(extensionOids.subjectAlternativeName, false, names),
    encodeExtension(acmeIdentifier, true, encode(tags.octetString, digest)),
  );
  const tbs = encode(
    tags.sequence,
    encode(constructed(0), encode(tags.integer, Uint8Array.of(2))),
    encodeUnsigned(randomBytes(16)),
    signatureAlgorithm(key.type),
    name,
    encode(tags.sequence, encodeTime(nowSeconds - 3_600), encodeTime(nowSeconds + lifetimeSeconds)),
    name,
    exportPublicKeyInfo(key.publicKey),
    encode(constructed(3), extensions),
  );
  const signature = await key.sign(tbs, "der");
  const der = encode(tags.sequence, tbs, signatureAlgorithm(key.type), encodeBitString(signature));
  return { cert: formatPemCertificates([der]), key: formatPrivateKey(key) };
}

/** PKCS #8 in PEM. */
export const formatPrivateKey = ({ privateKey }: LocalKey): string =>
  privateKey.export({ type: "pkcs8", format: "pem" }).toString();

/** Bytes of a TLS record's header, and the most that may follow it (RFC 8446, section 5.1). */
const recordHeader = 5;
const longestRecord = 2 ** 14;

/**
 * Whether what a client sent first asks for a validation and nothing else; "incomplete" = more bytes are needed.
 * Anything but a ClientHello in one record is no validation.
 */
export function asksForValidation(bytes: Uint8Array): boolean | "incomplete" {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length > 0 && view[0] !== 22) return false;
  if (view.length < recordHeader) return "incomplete";
  const length = view.readUInt16BE(3);
  if (length > longestRecord) return false;
  if (view.length < recordHeader + length) return "incomplete";
  const protocols = readProtocols(view.subarray(recordHeader, recordHeader + length));
  return protocols.length === 1 && protocols[0] === acmeProtocol;
}

/** The protocol names of a ClientHello (RFC 8446, section 4.1.2; RFC 7301, section 3.1); none for anything else. */
function readProtocols(hello: Buffer): readonly string[] {
  try {
    if (hello[0] !== 1) return [];
    // Header 4, version 2, random 32; then session ID, cipher suites and compression methods.
    let at = 38;
    at += 1 + hello.readUInt8(at);
    at += 2 + hello.readUInt16BE(at);
    at += 1 + hello.readUInt8(at);
    const end = at + 2 + hello.readUInt16BE(at);
    for (at += 2; at < end; ) {
      const type = hello.readUInt16BE(at);
      const length = hello.readUInt16BE(at + 2);
      if (type === protocolNames) return readNames(hello.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    return [];
  } catch {
    // It ends before its lengths say so.
    return [];
  }
}

const protocolNames = 16;

function readNames(list: Buffer): readonly string[] {
  const names: string[] = [];
  for (let at = 2; at < list.length; ) {
    const length = list.readUInt8(at);
    names.push(list.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return names;
}

/** As above, of what comes in on a connection; the bytes stay to be read. Called back at most once. */
export function onceAsked(socket: Socket, decide: (isValidation: boolean) => void): void {
  let bytes = Buffer.alloc(0);
  const onReadable = () => {
    const part: unknown = socket.read();
    if (!(part instanceof Buffer)) return;
    bytes = Buffer.concat([bytes, part]);
    const answer = asksForValidation(bytes);
    if (answer === "incomplete") return;
    socket.off("readable", onReadable);
    socket.unshift(bytes);
    decide(answer);
  };
  socket.on("readable", onReadable);
}
