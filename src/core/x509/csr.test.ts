import "reflect-metadata";
import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { SpireError } from "../errors.ts";
import { generateKey, keyTypes, type LocalKey } from "../keys.ts";
import { createCertificateRequest, parseCertificateRequest, verifyCertificateRequest } from "./csr.ts";
import { DerReader, encode, encodeBitString, readOnly, tags } from "./der.ts";
import { formatSubject } from "./name.ts";

const readGolden = (name: string): Buffer => {
  const pem = readFileSync(new URL(`../../../test/golden/x509/${name}.pem`, import.meta.url), "utf8");
  return Buffer.from(pem.replace(/-----.*-----/g, ""), "base64");
};

/** The request's bytes up to its signature, with the key as a hole. */
function normalise(der: Uint8Array): string {
  const { info, publicKeyInfo, signatureAlgorithm } = parseCertificateRequest(der);
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  return hex(info).replace(hex(publicKeyInfo), "<key>") + hex(signatureAlgorithm);
}

describe("a request", () => {
  test("of an agent for itself has SPIRE's bytes", async () => {
    const key = await generateKey("ec-p256");
    expect(normalise(await createCertificateRequest({ key }))).toBe(
      normalise(readGolden("agent-csr-attest")),
    );
  });

  test("for a workload has SPIRE's bytes", async () => {
    const key = await generateKey("ec-p256");
    const der = await createCertificateRequest({ key, uri: "spiffe://example.org/wire2" });
    expect(normalise(der)).toBe(normalise(readGolden("agent-csr-workload")));
  });

  test.each([...keyTypes])("with a key of type %s is understood here and by @peculiar/x509", async (type) => {
    const key = await generateKey(type);
    const uri = "spiffe://example.org/w";
    const der = await createCertificateRequest({ key, uri, dnsNames: ["a.test", "b.test"] });
    const request = parseCertificateRequest(der);
    verifyCertificateRequest(request);
    expect(request.uris).toEqual([uri]);
    expect(request.dnsNames).toEqual(["a.test", "b.test"]);
    expect(request.publicKey.equals(key.publicKey)).toBe(true);
    expect(formatSubject(request.subjectDer)).toBe("O=SPIRE,C=US");
    const other = new x509.Pkcs10CertificateRequest(Buffer.from(der));
    expect(await other.verify()).toBe(true);
    expect(other.subject).toBe("C=US, O=SPIRE");
  });

  test("with a golden signature is verified", () => {
    for (const name of ["agent-csr-attest", "agent-csr-workload"]) {
      verifyCertificateRequest(parseCertificateRequest(readGolden(name)));
    }
  });
});

describe("a request is refused", () => {
  test.each(["", "x", "garbage", "0\0", "0\x80\0\0"])("when it is no DER: %j", (text) => {
    expect(() => parseCertificateRequest(Buffer.from(text, "latin1"))).toThrow(SpireError);
  });

  test("when its signature is by another key or over other bytes", async () => {
    const der = Buffer.from(await createCertificateRequest({ key: await generateKey("ec-p256") }));
    const stranger = await generateKey("ec-p256");
    const { publicKey } = await generateKey("ec-p256");
    const borrowed: LocalKey = { ...stranger, publicKey };
    const foreign = await createCertificateRequest({ key: borrowed });
    const changed = Buffer.from(der);
    changed.write("XX", der.indexOf("US"), "latin1");
    for (const bad of [foreign, changed]) {
      const request = parseCertificateRequest(bad);
      expect(() => verifyCertificateRequest(request)).toThrow("signature does not match the public key");
    }
  });

  test("when its key is too weak or of an unknown kind", async () => {
    const weak = generateKeyPairSync("rsa", { modulusLength: 1024 });
    const curve = generateKeyPairSync("ec", { namedCurve: "P-224" });
    const signer = await generateKey("ec-p256");
    for (const { publicKey } of [weak, curve]) {
      const der = await createCertificateRequest({ key: { ...signer, publicKey } });
      expect(() => parseCertificateRequest(der)).toThrow("unsupported public key");
    }
  });

  test("when its key is not in the form that goes into a certificate", () => {
    const request = parseCertificateRequest(readGolden("agent-csr-attest"));
    const point = request.publicKeyInfo.subarray(-64);
    const parity = (point.at(-1) ?? 0) & 1;
    const compressed = encode(
      tags.sequence,
      new DerReader(readOnly(request.publicKeyInfo).content).read(tags.sequence).raw,
      encodeBitString(Buffer.of(2 + parity, ...point.subarray(0, 32))),
    );
    const info = encode(
      tags.sequence,
      Uint8Array.of(tags.integer, 1, 0),
      request.subjectDer,
      compressed,
      Uint8Array.of(0xa0, 0),
    );
    const der = encode(tags.sequence, info, request.signatureAlgorithm, encodeBitString(request.signature));
    expect(() => parseCertificateRequest(der)).toThrow("public key that is not in canonical form");
  });
});
