/** Certificate signing requests (PKCS #10, RFC 2986) as agents and workloads send them. */
import type { KeyObject } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import { exportPublicKeyInfo, type SigningKey } from "../keys.ts";
import { signatureAlgorithm, verifySignature } from "./algorithms.ts";
import { importPublicKey, readExtension } from "./certificate.ts";
import {
  bitStringBytes,
  constructed,
  DerReader,
  encode,
  encodeBitString,
  encodeOid,
  readOid,
  readOnly,
  tags,
  unsignedBytes,
} from "./der.ts";
import {
  type AlternativeNames,
  encodeAlternativeNames,
  encodeExtension,
  extensionOids,
  readAlternativeNames,
} from "./extensions.ts";
import { encodeName } from "./name.ts";

export interface CertificateRequest {
  readonly der: Uint8Array;
  /** CertificationRequestInfo, the bytes that are signed. */
  readonly info: Uint8Array;
  /** DER AlgorithmIdentifier of `signature`. */
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array;
  readonly publicKey: KeyObject;
  /** URI and DNS names of the subject alternative name that is asked for, in their order. */
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** DER Name. */
  readonly subjectDer: Uint8Array;
}

const extensionRequest = "1.2.840.113549.1.9.14";
const smallestRsaBits = 2048;
const curves: readonly (string | undefined)[] = ["prime256v1", "secp384r1", "secp521r1"];

/**
 * Reads a request without judging its signature.
 * @throws SpireError INVALID_ARGUMENT for anything but one DER request with a key that an SVID may have:
 * ECDSA on P-256, P-384 or P-521, RSA from 2048 bits, Ed25519.
 */
export function parseCertificateRequest(der: Uint8Array): CertificateRequest {
  const outer = new DerReader(readOnly(der).content);
  const info = outer.read(tags.sequence);
  const algorithm = outer.read(tags.sequence).raw;
  const signature = bitStringBytes(outer.read(tags.bitString));
  outer.end();

  const reader = new DerReader(info.content);
  const [version] = unsignedBytes(reader.read(tags.integer));
  if (version !== 0) throw invalidArgument("malformed certificate request: unknown version");
  const subjectDer = reader.read(tags.sequence).raw;
  const publicKeyInfo = reader.read(tags.sequence).raw;
  const names = readRequestedNames(reader.optional(constructed(0))?.content ?? new Uint8Array());
  reader.end();

  const publicKey = importPublicKey(publicKeyInfo);
  checkKey(publicKey, publicKeyInfo);
  return {
    der,
    info: info.raw,
    signatureAlgorithm: algorithm,
    signature,
    publicKeyInfo,
    publicKey,
    subjectDer,
    ...names,
  };
}

function readRequestedNames(attributes: Uint8Array): Pick<AlternativeNames, "uris" | "dnsNames"> {
  for (const reader = new DerReader(attributes); !reader.done; ) {
    const attribute = reader.enter();
    const oid = readOid(attribute.read(tags.oid));
    const values = attribute.enter(tags.set);
    attribute.end();
    if (oid !== extensionRequest) continue;
    for (const extensions = values.enter(); !extensions.done; ) {
      const extension = readExtension(extensions.enter());
      if (extension.oid === extensionOids.subjectAlternativeName)
        return readAlternativeNames(extension.value);
    }
  }
  return { uris: [], dnsNames: [] };
}

/** The key's bytes go into the certificate as they are, so they must be the canonical ones. */
function checkKey(key: KeyObject, publicKeyInfo: Uint8Array): void {
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const acceptable =
    (key.asymmetricKeyType === "ec" && curves.includes(namedCurve)) ||
    (key.asymmetricKeyType === "rsa" && modulusLength >= smallestRsaBits) ||
    key.asymmetricKeyType === "ed25519";
  if (!acceptable) throw invalidArgument("certificate request has an unsupported public key");
  if (Buffer.compare(exportPublicKeyInfo(key), publicKeyInfo) !== 0) {
    throw invalidArgument("certificate request has a public key that is not in canonical form");
  }
}

/** @throws SpireError INVALID_ARGUMENT unless the request is signed with the key that it carries. */
export function verifyCertificateRequest(request: CertificateRequest): void {
  const { signatureAlgorithm, info, publicKey, signature } = request;
  if (!verifySignature(signatureAlgorithm, info, publicKey, signature)) {
    throw invalidArgument("signature does not match the public key");
  }
}

export interface RequestParameters {
  readonly key: SigningKey;
  readonly uri?: string;
  readonly dnsNames?: readonly string[];
  /** DER Name; C=US, O=SPIRE when it is left out. */
  readonly subjectDer?: Uint8Array;
}

const defaultSubject = encodeName({ country: ["US"], organization: ["SPIRE"] });

/** DER of a signed request. Without names it has no attributes, as an agent's own request. */
export async function createCertificateRequest(parameters: RequestParameters): Promise<Uint8Array> {
  const { key, uri, dnsNames = [], subjectDer = defaultSubject } = parameters;
  const info = encode(
    tags.sequence,
    encode(tags.integer, Uint8Array.of(0)),
    subjectDer,
    exportPublicKeyInfo(key.publicKey),
    encodeAttributes(dnsNames, uri === undefined ? [] : [uri]),
  );
  const signature = await key.sign(info, "der");
  return encode(tags.sequence, info, signatureAlgorithm(key.type), encodeBitString(signature));
}

function encodeAttributes(dnsNames: readonly string[], uris: readonly string[]): Buffer {
  if (dnsNames.length + uris.length === 0) return encode(constructed(0));
  const names = encodeAlternativeNames(dnsNames, uris);
  const extensions = encode(
    tags.sequence,
    encodeExtension(extensionOids.subjectAlternativeName, false, names),
  );
  return encode(
    constructed(0),
    encode(tags.sequence, encodeOid(extensionRequest), encode(tags.set, extensions)),
  );
}
