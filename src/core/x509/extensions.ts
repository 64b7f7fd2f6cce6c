/** The certificate extensions that SVIDs carry (RFC 5280, 4.2.1): identifiers, and writing and reading values. */
import { invalidArgument } from "../errors.ts";
import { asciiText, DerReader, encode, encodeOid, primitive, readOnly, tags } from "./der.ts";

export const extensionOids = {
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAlternativeName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  certificatePolicies: "2.5.29.32",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

/** Bits of `Certificate.keyUsage`: bit n of the standard's BIT STRING is 1 << n. */
export const keyUsages = {
  digitalSignature: 1 << 0,
  keyEncipherment: 1 << 2,
  keyAgreement: 1 << 4,
  keyCertSign: 1 << 5,
  cRLSign: 1 << 6,
} as const;

export interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

const yes = Uint8Array.of(tags.boolean, 1, 0xff);

export const encodeExtension = (oid: string, critical: boolean, value: Uint8Array): Buffer =>
  critical
    ? encode(tags.sequence, encodeOid(oid), yes, encode(tags.octetString, value))
    : encode(tags.sequence, encodeOid(oid), encode(tags.octetString, value));

/** KeyUsage has nine bits (RFC 5280, 4.2.1.3). */
const longestKeyUsage = 3;

/**
 * A BIT STRING's content, unused-bits octet included, as bits of `keyUsages`.
 * @throws SpireError INVALID_ARGUMENT for one that is longer than any use of a key needs.
 */
export function keyUsageBits(content: Uint8Array): number {
  if (content.length === 0 || content.length > longestKeyUsage) throw invalidArgument("malformed key usage");
  let bits = 0;
  for (let index = 0; index < (content.length - 1) * 8; index += 1) {
    const byte = content[1 + (index >> 3)] ?? 0;
    if (byte & (0x80 >> (index & 7))) bits |= 1 << index;
  }
  return bits;
}

/** Tags of GeneralName (RFC 5280, 4.2.1.6). */
export const generalNameTags = { dns: primitive(2), uri: primitive(6), ip: primitive(7) } as const;

/** GeneralNames: the DNS names, then the URIs, as Go orders them. @throws SpireError INVALID_ARGUMENT */
export const encodeAlternativeNames = (dnsNames: readonly string[], uris: readonly string[]): Buffer =>
  encode(
    tags.sequence,
    ...dnsNames.map((name) => encode(generalNameTags.dns, ia5(name))),
    ...uris.map((uri) => encode(generalNameTags.uri, ia5(uri))),
  );

const ascii = /^[\x20-\x7e]*$/;

function ia5(text: string): Buffer {
  if (!ascii.test(text)) throw invalidArgument(`name "${text}" has characters outside of ASCII`);
  return Buffer.from(text, "latin1");
}

/** The names of a certificate or of a request for one. */
export interface AlternativeNames {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** 4 bytes (IPv4) or 16 (IPv6) each. */
  readonly ipAddresses: readonly Uint8Array[];
}

/** Names of other types are left aside, as they say nothing about an identity here. */
export function readAlternativeNames(value: Uint8Array): AlternativeNames {
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const ipAddresses: Uint8Array[] = [];
  for (const names = new DerReader(readOnly(value).content); !names.done; ) {
    const name = names.next();
    if (name.tag === generalNameTags.uri) uris.push(asciiText(name.content));
    if (name.tag === generalNameTags.dns) dnsNames.push(asciiText(name.content));
    if (name.tag === generalNameTags.ip) ipAddresses.push(ipBytes(name.content));
  }
  return { uris, dnsNames, ipAddresses };
}

function ipBytes(content: Uint8Array): Uint8Array {
  if (content.length === 4 || content.length === 16) return content;
  throw invalidArgument(`an IP address has ${content.length} bytes`);
}
