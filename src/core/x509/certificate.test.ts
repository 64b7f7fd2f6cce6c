import { describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { SpireError } from "../errors.ts";
import {
  authorityId,
  formatPemCertificates,
  parseCertificate,
  parsePemCertificates,
  publicKeyOf,
  splitDer,
} from "./certificate.ts";
import { parseCertificateRequest } from "./csr.ts";
import { keyUsages } from "./extensions.ts";
import { encodeName, formatSubject } from "./name.ts";

const golden = new URL("../../../test/golden/x509/", import.meta.url);
const readPem = (name: string) => readFileSync(new URL(name, golden), "utf8");
const names = readdirSync(golden).filter((name) => name.endsWith(".pem") && !name.includes("csr-attest"));
const certificates = names.filter((name) => !name.startsWith("agent-csr"));
const readDer = (name: string): Uint8Array => {
  const [der] = parsePemCertificates(readPem(name));
  if (!der) throw new Error(`${name} is empty`);
  return der;
};

describe("a certificate", () => {
  test.each(certificates)("%s reads as node:crypto reads it", (name) => {
    const der = readDer(name);
    const read = parseCertificate(der);
    const other = new X509Certificate(Buffer.from(der));
    expect(BigInt(read.serialNumber)).toBe(BigInt(`0x${other.serialNumber}`));
    expect(read.notBefore).toBe(other.validFromDate.getTime() / 1000);
    expect(read.notAfter).toBe(other.validToDate.getTime() / 1000);
    expect(read.isCa).toBe(other.ca);
    expect(publicKeyOf(read).equals(other.publicKey)).toBe(true);
    const alternativeNames = [
      ...read.dnsNames.map((dnsName) => `DNS:${dnsName}`),
      ...read.uris.map((uri) => `URI:${uri}`),
    ];
    expect(alternativeNames.join(", ")).toBe(other.subjectAltName ?? "");
  });

  test("shows what it is for and whose", () => {
    const svid = parseCertificate(readDer("workload-svid-two-dns-names.pem"));
    expect(formatSubject(svid.subjectDer)).toBe("CN=a.test,O=SPIRE,C=US");
    expect(svid.keyUsage).toBe(
      keyUsages.digitalSignature | keyUsages.keyEncipherment | keyUsages.keyAgreement,
    );
    expect(svid.extendedKeyUsages).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    const ca = parseCertificate(readDer("ca-self-signed.pem"));
    expect(authorityId(ca)).toBe("a9875c4f4abef41aadc8fa7c7a1416f4b65f7090");
    expect(authorityId(ca.publicKeyInfo)).toBe(authorityId(ca));
    expect(Buffer.from(svid.authorityKeyId ?? []).toString("hex")).toBe(authorityId(ca));
    expect(ca.keyUsage).toBe(keyUsages.keyCertSign | keyUsages.cRLSign);
  });

  test("with any bytes changed is read or refused with INVALID_ARGUMENT, and nothing else happens", () => {
    const original = readDer("workload-svid-two-dns-names.pem");
    const pem = readPem("agent-csr-workload.pem").replace(/-----.*-----/g, "");
    const inputs = [original, new Uint8Array(Buffer.from(pem, "base64"))];
    const change = fc.record({ at: fc.nat(600), value: fc.nat(255) });
    fc.assert(
      fc.property(
        fc.constantFrom(...inputs),
        fc.array(change, { minLength: 1, maxLength: 3 }),
        fc.nat(20),
        (input, changes, cut) => {
          const bytes = Uint8Array.from(input.subarray(0, input.length - (cut > 10 ? cut - 10 : 0)));
          for (const { at, value } of changes) bytes[at % bytes.length] = value;
          for (const parse of [parseCertificate, parseCertificateRequest]) {
            try {
              parse(bytes);
            } catch (error) {
              expect(error).toBeInstanceOf(SpireError);
              expect(SpireError.from(error).code).toBe("INVALID_ARGUMENT");
            }
          }
        },
      ),
      { numRuns: 3_000 },
    );
  });

  test("is refused with bytes behind it or cut anywhere", () => {
    const der = readDer("ca-self-signed.pem");
    expect(() => parseCertificate(Buffer.concat([der, Buffer.of(0)]))).toThrow(SpireError);
    for (let size = 0; size < der.length; size += 1) {
      expect(() => parseCertificate(der.subarray(0, size))).toThrow(SpireError);
    }
  });
});

describe("PEM", () => {
  const pem = readPem("bundle.pem");
  const der = readDer("bundle.pem");

  test("is written as SPIRE writes it", () => {
    expect(formatPemCertificates([der])).toBe(pem);
    expect(parsePemCertificates(pem + pem)).toEqual([der, der]);
  });

  test("is found between other text and with other line ends", () => {
    const windows = pem.replaceAll("\n", "\r\n");
    expect(parsePemCertificates(`subject=CA\n${windows}\nmore text`)).toEqual([der]);
  });

  test.each([
    ["", "no PEM blocks"],
    ["garbage", "no PEM blocks"],
    [pem.slice(0, -20), "malformed PEM block"],
    [pem.replace("MII", "M*I"), "malformed PEM block"],
    [pem.replaceAll("CERTIFICATE", "PUBLIC KEY"), 'expected block type "CERTIFICATE"; got "PUBLIC KEY"'],
  ])("that is broken is refused (%#)", (text, message) => {
    expect(() => parsePemCertificates(text)).toThrow(message);
  });

  test("must hold certificates", () => {
    const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    expect(() => parsePemCertificates(broken)).toThrow(SpireError);
  });
});

test("concatenated DER is split", () => {
  const der = readDer("bundle.pem");
  expect(splitDer(Buffer.concat([der, der]))).toEqual([der, der].map((one) => Buffer.from(one)));
  expect(splitDer(new Uint8Array())).toEqual([]);
  expect(() => splitDer(Buffer.concat([der, der.subarray(0, 10)]))).toThrow(SpireError);
});

describe("a subject", () => {
  test.each([
    [{}, ""],
    [{ country: ["US"], organization: ["SPIRE"] }, "O=SPIRE,C=US"],
    [
      { serialNumber: ["1"], commonName: ["c"], organizationalUnit: ["u"], organization: ["o"] },
      "SERIALNUMBER=1,CN=c,OU=u,O=o",
    ],
    [{ organization: ["B", "A"] }, "O=A+O=B"],
    [{ commonName: ['a,b+c"d'] }, 'CN=a\\,b\\+c\\"d'],
    [{ commonName: [" #x "] }, "CN=\\ #x\\ "],
    [{ organization: ["Müller & Söhne"] }, "O=Müller & Söhne"],
  ])("%j prints as %s", (name, text) => {
    expect(formatSubject(encodeName(name))).toBe(text);
  });

  test("is PrintableString where that can hold it, else UTF8String", () => {
    const hexOf = (commonName: string) => encodeName({ commonName: [commonName] }).toString("hex");
    expect(hexOf("a b")).toEndWith("1303612062");
    for (const text of ["a_b", "a*b", "a&b", "a@b"]) {
      expect(hexOf(text)).toEndWith(`0c03${Buffer.from(text).toString("hex")}`);
    }
  });
});
