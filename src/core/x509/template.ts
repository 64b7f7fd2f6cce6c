/** The hot half of issuance: a to-be-signed certificate whose fixed bytes are made once and whose holes are copied in. */
import { elementSize, encode, tags, writeHeader } from "./der.ts";

/** The bytes that all certificates of one kind from one issuer share. */
export interface Template {
  /** AlgorithmIdentifier and issuer Name. */
  readonly head: Uint8Array;
  /** The extensions before the subject key identifier. */
  readonly firstExtensions: Uint8Array;
  /** The whole authority key identifier extension; empty in a self-signed certificate. */
  readonly authorityKeyId: Uint8Array;
}

/** What differs from one certificate to the next; all but `keyId` and `names` as whole DER elements. */
export interface Holes {
  readonly serialNumber: Uint8Array;
  readonly notBefore: Uint8Array;
  readonly notAfter: Uint8Array;
  readonly subject: Uint8Array;
  readonly publicKeyInfo: Uint8Array;
  /** 20 bytes. */
  readonly keyId: Uint8Array;
  /** GeneralNames, the value of the subject alternative name. */
  readonly alternativeNames: Uint8Array;
}

/** `[0] { INTEGER 2 }`: version 3. */
const version = Uint8Array.of(0xa0, 3, 2, 1, 2);
/** SEQUENCE { OID 2.5.29.14, OCTET STRING { OCTET STRING of 20 bytes } } up to those bytes. */
const keyIdHead = Uint8Array.of(0x30, 0x1d, 6, 3, 0x55, 0x1d, 0x0e, 4, 0x16, 4, 0x14);
const keyIdSize = 20;
const alternativeNameOid = Uint8Array.of(6, 3, 0x55, 0x1d, 0x11);
/** The same with `critical`, as the names are all that says who it is when the subject is empty (RFC 5280, 4.2.1.6). */
const criticalAlternativeName = Uint8Array.of(...alternativeNameOid, tags.boolean, 1, 0xff);
const emptyNameSize = 2;

/** DER TBSCertificate (RFC 5280, 4.1). */
export function fillTemplate(template: Template, holes: Holes): Buffer {
  const validitySize = holes.notBefore.length + holes.notAfter.length;
  const nameHead = holes.subject.length > emptyNameSize ? alternativeNameOid : criticalAlternativeName;
  const nameSize = nameHead.length + elementSize(holes.alternativeNames.length);
  const listSize =
    template.firstExtensions.length +
    keyIdHead.length +
    keyIdSize +
    template.authorityKeyId.length +
    elementSize(nameSize);
  const size =
    version.length +
    holes.serialNumber.length +
    template.head.length +
    elementSize(validitySize) +
    holes.subject.length +
    holes.publicKeyInfo.length +
    elementSize(elementSize(listSize));

  const target = Buffer.allocUnsafe(elementSize(size));
  let at = writeHeader(target, 0, tags.sequence, size);
  const put = (bytes: Uint8Array) => {
    target.set(bytes, at);
    at += bytes.length;
  };
  put(version);
  put(holes.serialNumber);
  put(template.head);
  at = writeHeader(target, at, tags.sequence, validitySize);
  put(holes.notBefore);
  put(holes.notAfter);
  put(holes.subject);
  put(holes.publicKeyInfo);
  at = writeHeader(target, at, 0xa3, elementSize(listSize));
  at = writeHeader(target, at, tags.sequence, listSize);
  put(template.firstExtensions);
  put(keyIdHead);
  put(holes.keyId);
  put(template.authorityKeyId);
  at = writeHeader(target, at, tags.sequence, nameSize);
  put(nameHead);
  at = writeHeader(target, at, tags.octetString, holes.alternativeNames.length);
  put(holes.alternativeNames);
  return target;
}

/** Joins the signed parts to a certificate. */
export function assemble(tbs: Uint8Array, algorithm: Uint8Array, signature: Uint8Array): Buffer {
  const bits = encode(tags.bitString, noUnusedBits, signature);
  return encode(tags.sequence, tbs, algorithm, bits);
}

const noUnusedBits = Uint8Array.of(0);
