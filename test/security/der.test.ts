/** Certificates and requests that bend DER: what isn't exactly right must be refused, and cheaply. */
import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { exportPublicKeyInfo, generateKey } from "../../src/core/keys.ts";
import { type Certificate, parseCertificate } from "../../src/core/x509/certificate.ts";
import { parseCertificateRequest } from "../../src/core/x509/csr.ts";
import {
  constructed,
  DerReader,
  encode,
  encodeBitString,
  encodeOid,
  encodeTime,
  primitive,
  readOid,
  readOnly,
  tags,
  unsignedBytes,
} from "../../src/core/x509/der.ts";
import { encodeExtension, extensionOids } from "../../src/core/x509/extensions.ts";
import { parseSvidId } from "../../src/core/x509/verify.ts";

const algorithm = encode(tags.sequence, encodeOid("1.2.840.10045.4.3.2"));
const publicKeyInfo = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
const name = encode(tags.sequence);

interface Parts {
  readonly version?: Uint8Array;
  readonly serial?: Uint8Array;
  readonly extensions?: readonly Uint8Array[];
}

/** An unsigned certificate of the given parts. */
function certificate({ version = Uint8Array.of(2), serial = Uint8Array.of(1), extensions = [] }: Parts) {
  const tbs = encode(
    tags.sequence,
    encode(constructed(0), encode(tags.integer, version)),
    encode(tags.integer, serial),
    algorithm,
    name,
    encode(tags.sequence, encodeTime(1_800_000_000), encodeTime(1_800_003_600)),
    name,
    publicKeyInfo,
    encode(constructed(3), encode(tags.sequence, ...extensions)),
  );
  return encode(tags.sequence, tbs, algorithm, encodeBitString(Buffer.alloc(70)));
}

const parse = (parts: Parts): Certificate => parseCertificate(certificate(parts));

const withNames = (...names: readonly Uint8Array[]): Parts => ({
  extensions: [encodeExtension(extensionOids.subjectAlternativeName, false, encode(tags.sequence, ...names))],
});

const refused = expect.objectContaining({ code: "INVALID_ARGUMENT" });

function failure(work: () => unknown): unknown {
  try {
    work();
    return "accepted";
  } catch (error) {
    return error;
  }
}

describe("a certificate", () => {
  test("made of these parts is read", () => {
    expect(parse({}).serialNumber).toBe("1");
  });

  test.each([
    ["a negative serial number", { serial: Uint8Array.of(0x80) }],
    ["an empty serial number", { serial: new Uint8Array() }],
    ["a padded serial number", { serial: Uint8Array.of(0, 1) }],
    ["a serial number of 90,000 bytes", { serial: Buffer.alloc(90_000, 0x7f) }],
    ["version 513", { version: Uint8Array.of(2, 0) }],
    ["version 0", { version: Uint8Array.of(0) }],
  ] satisfies [string, Parts][])("with %s is refused", (_, parts) => {
    expect(failure(() => parse(parts))).toEqual(refused);
  });

  test("has no key usage by a bit far behind the last one", () => {
    // Bit 37 is bit 5, keyCertSign, when it is shifted in 32 bits.
    const bits = Uint8Array.of(tags.bitString, 6, 2, 0, 0, 0, 0, 0x04);
    const far = { extensions: [encodeExtension(extensionOids.keyUsage, true, bits)] };
    expect(failure(() => parse(far).keyUsage)).toEqual(refused);
  });

  test.each([
    ["a NUL", "spiffe://example.org/a\0.evil"],
    ["a NUL in the trust domain", "spiffe://example.org\0.evil/a"],
    ["a line end", "spiffe://example.org/a\n"],
    ["a query", "spiffe://example.org/a?b"],
    ["a fragment", "spiffe://example.org/a#b"],
    ["a port", "spiffe://example.org:443/a"],
    ["a user", "spiffe://root@example.org/a"],
    ["an escape", "spiffe://example.org/%61"],
    ["another case", "SPIFFE://example.org/a"],
    ["a trust domain in another case", "spiffe://Example.org/a"],
    ["a parent segment", "spiffe://example.org/a/../b"],
  ])("whose URI has %s names nobody", (_, uri) => {
    const read = parse(withNames(encode(primitive(6), Buffer.from(uri, "latin1"))));
    expect(failure(() => parseSvidId(read))).toMatchObject({ code: "UNAUTHENTICATED" });
  });

  test("with a URI of UTF-8 is refused, whatever it looks like", () => {
    const look = Buffer.from("spiffe://example.org/\u0430dmin");
    expect(failure(() => parse(withNames(encode(primitive(6), look))))).toEqual(refused);
  });

  test("with a constructed URI has no URI: it is one name or none, never two readings", () => {
    const inner = encode(primitive(6), Buffer.from("spiffe://example.org/a"));
    const read = parse(withNames(encode(constructed(6), inner)));
    expect(read.uris).toEqual([]);
  });

  test("with the same extension twice is refused", () => {
    const first = withNames(encode(primitive(6), Buffer.from("spiffe://example.org/a"))).extensions ?? [];
    expect(failure(() => parse({ extensions: [...first, ...first] }))).toEqual(refused);
  });
});

describe("the reader", () => {
  test.each([
    ["an indefinite length", [0x30, 0x80, 0, 0]],
    ["a length of five bytes", [0x30, 0x85, 0, 0, 0, 0, 0]],
    ["a length beyond its end", [0x30, 0x84, 0xff, 0xff, 0xff, 0xff]],
    ["a length that could be shorter", [0x30, 0x81, 0x01, 0]],
    ["a length with a leading zero", [0x30, 0x82, 0x00, 0x81, ...new Array<number>(0x81).fill(0)]],
    ["a tag of two bytes", [0x3f, 0x01, 0]],
    ["no length", [0x30]],
    ["bytes behind its end", [0x30, 0, 0]],
  ])("refuses %s", (_, bytes) => {
    expect(failure(() => readOnly(Uint8Array.from(bytes)))).toEqual(refused);
  });

  test.each([[[0x80, 0x01]], [[0x2a, 0x80, 0x01]], [[0x2a, 0x86]], [[]]])(
    "refuses the object identifier %p",
    (bytes) => {
      const element = new DerReader(encode(tags.oid, Uint8Array.from(bytes))).next();
      expect(failure(() => readOid(element))).toEqual(refused);
    },
  );

  test.each([[[]], [[0xff]], [[0x00, 0x7f]]])("refuses the number %p", (bytes) => {
    const element = new DerReader(encode(tags.integer, Uint8Array.from(bytes))).next();
    expect(failure(() => unsignedBytes(element))).toEqual(refused);
  });
});

describe("a request", () => {
  const request = (key: Uint8Array, version = Uint8Array.of(0)) => {
    const info = encode(tags.sequence, encode(tags.integer, version), name, key, encode(constructed(0)));
    return encode(tags.sequence, info, algorithm, encodeBitString(Buffer.alloc(70)));
  };

  test("of another version is refused", () => {
    expect(parseCertificateRequest(request(publicKeyInfo)).uris).toEqual([]);
    expect(failure(() => parseCertificateRequest(request(publicKeyInfo, Uint8Array.of(1))))).toEqual(refused);
  });

  test.each([
    ["RSA of 1,024 bits", () => generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey],
    ["P-224", () => generateKeyPairSync("ec", { namedCurve: "secp224r1" }).publicKey],
    ["secp256k1", () => generateKeyPairSync("ec", { namedCurve: "secp256k1" }).publicKey],
    ["X25519", () => generateKeyPairSync("x25519").publicKey],
  ])("with a key of %s is refused", (_, make) => {
    let key: ReturnType<typeof make>;
    try {
      key = make();
    } catch {
      // This runtime doesn't know the kind, so a request can't be made here; parsing one fails as well.
      return;
    }
    expect(failure(() => parseCertificateRequest(request(exportPublicKeyInfo(key))))).toEqual(refused);
  });
});
