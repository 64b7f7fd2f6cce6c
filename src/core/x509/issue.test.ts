import "reflect-metadata";
import { beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import fc from "fast-check";
import { SpireError } from "../errors.ts";
import {
  exportPkcs8,
  exportPublicKeyInfo,
  generateKey,
  type KeyType,
  keyTypes,
  type LocalKey,
} from "../keys.ts";
import { agentId, makeSpiffeId, parseTrustDomain, serverId, trustDomainId } from "../spiffe-id.ts";
import { authorityId, type Certificate, parseCertificate, parsePemCertificates } from "./certificate.ts";
import { parseCertificateRequest } from "./csr.ts";
import { DerReader, readOnly } from "./der.ts";
import {
  createIssuer,
  type IssuedCertificate,
  type Issuer,
  issueAgentSvid,
  issueDownstreamCa,
  issueSelfSignedCa,
  issueServerSvid,
  issueWorkloadSvid,
  workloadSubject,
} from "./issue.ts";
import { encodeName, formatSubject } from "./name.ts";

const golden = new URL("../../../test/golden/x509/", import.meta.url);
const readGolden = (name: string): Certificate => {
  const [der] = parsePemCertificates(readFileSync(new URL(`${name}.pem`, golden), "utf8"));
  if (!der) throw new Error(`${name}.pem holds no certificate`);
  return parseCertificate(der);
};

const td = parseTrustDomain("example.org");
const now = 1_795_319_955;
const keys = new Map<KeyType, LocalKey>();
const keyOf = (type: KeyType): LocalKey => {
  const key = keys.get(type);
  if (!key) throw new Error(`no key of type ${type} was made`);
  return key;
};

beforeAll(async () => {
  for (const type of keyTypes) keys.set(type, await generateKey(type));
});

/** The elements of a TBSCertificate; the serial number, always a hole, is left out. */
function fieldsOf({ tbs }: Certificate): Record<string, string> {
  const reader = new DerReader(readOnly(tbs).content);
  const names = [
    "version",
    "serial",
    "algorithm",
    "issuer",
    "validity",
    "subject",
    "publicKey",
    "extensions",
  ];
  const fields = Object.fromEntries(
    names.map((name) => [name, Buffer.from(reader.next().raw).toString("hex")]),
  );
  reader.end();
  return { ...fields, serial: "" };
}

describe("issued certificates have SPIRE's bytes", () => {
  const goldenIssuer = (): Issuer => createIssuer(keyOf("ec-p256"), readGolden("ca-self-signed").der, []);

  async function expectSame(name: string, reissue: (original: Certificate) => Promise<IssuedCertificate>) {
    const original = readGolden(name);
    expect(fieldsOf(parseCertificate((await reissue(original)).der))).toEqual(fieldsOf(original));
  }

  const at = ({ notBefore }: Certificate) => notBefore + 10;
  const ttlOf = ({ notBefore, notAfter }: Certificate) => notAfter - notBefore - 10;
  const idOf = ({ uris: [uri = ""] }: Certificate) =>
    makeSpiffeId(td, uri.slice("spiffe://example.org".length));

  test.each([
    "workload-svid-default",
    "workload-svid-federated",
    "workload-svid-from-api-dns-ttl",
    "workload-svid-ttl-120",
    "workload-svid-two-dns-names",
    "minted-default",
  ])("%s", async (name) => {
    await expectSame(name, (original) =>
      issueWorkloadSvid(
        goldenIssuer(),
        {
          spiffeId: idOf(original),
          publicKeyInfo: original.publicKeyInfo,
          ttlSeconds: ttlOf(original),
          dnsNames: original.dnsNames,
        },
        at(original),
      ),
    );
  });

  test("minted-ttl-600-dns-and-cn: the first DNS name replaces the common name that was asked for", async () => {
    await expectSame("minted-ttl-600-dns-and-cn", (original) =>
      issueWorkloadSvid(
        goldenIssuer(),
        {
          spiffeId: idOf(original),
          publicKeyInfo: original.publicKeyInfo,
          ttlSeconds: 600,
          dnsNames: original.dnsNames,
          subject: workloadSubject(original.dnsNames, encodeName({ commonName: ["commonname"] })),
        },
        at(original),
      ),
    );
  });

  test.each([
    "agent-svid-csr-asked-other-names",
    "agent-svid-join-token",
    "agent-svid-renewed",
    "agent-svid-x509pop",
  ])("%s", async (name) => {
    await expectSame(name, (original) =>
      issueAgentSvid(
        goldenIssuer(),
        { spiffeId: idOf(original), publicKeyInfo: original.publicKeyInfo, ttlSeconds: ttlOf(original) },
        at(original),
      ),
    );
  });

  test.each(["server-svid", "bundle-endpoint-https-spiffe"])("%s", async (name) => {
    await expectSame(name, ({ publicKeyInfo, ...original }) =>
      issueServerSvid(
        goldenIssuer(),
        { spiffeId: serverId(td), publicKeyInfo, ttlSeconds: original.notAfter - original.notBefore - 10 },
        original.notBefore + 10,
      ),
    );
  });

  test.each([
    ["downstream-ca", 86_400],
    ["downstream-ca-preferred-ttl-1800", 1_800],
  ])("%s", async (name, ttlSeconds) => {
    await expectSame(name, (original) =>
      issueDownstreamCa(
        goldenIssuer(),
        { spiffeId: trustDomainId(td), publicKeyInfo: original.publicKeyInfo, ttlSeconds, chainLength: 1 },
        at(original),
      ),
    );
  });

  test("ca-self-signed", async () => {
    const original = readGolden("ca-self-signed");
    const key = keyOf("ec-p256");
    const issued = await issueSelfSignedCa({ key, trustDomain: td, ttlSeconds: 86_400 }, at(original));
    const made = parseCertificate(issued.der);
    // Serial number, key and the two names that hold the serial number are the holes.
    const normalise = (certificate: Certificate) => {
      const holes: [string, string][] = [
        [Buffer.from(certificate.publicKeyInfo).toString("hex"), "<key>"],
        [authorityId(certificate), "<key id>"],
        // Tag, length and digits, as the length of a decimal number varies.
        [Buffer.from(certificate.subjectDer).toString("hex"), "<name>"],
      ];
      return Object.values(fieldsOf(certificate)).map((field) =>
        holes.reduce((text, [hole, label]) => text.replaceAll(hole, label), field),
      );
    };
    expect(normalise(made)).toEqual(normalise(original));
    expect(formatSubject(made.subjectDer)).toBe(`SERIALNUMBER=${issued.serialNumber},O=SPIFFE,C=US`);
    expect(Buffer.from(made.subjectDer).equals(made.issuerDer)).toBe(true);
  });

  test("the CSRs that SPIRE's agents send are understood", () => {
    for (const [name, uris] of [
      ["agent-csr-attest", []],
      ["agent-csr-workload", ["spiffe://example.org/wire2"]],
    ] as const) {
      const pem = readFileSync(new URL(`${name}.pem`, golden), "utf8");
      const request = parseCertificateRequest(Buffer.from(pem.replace(/-----.*-----/g, ""), "base64"));
      expect(request.uris).toEqual(uris);
      expect(formatSubject(request.subjectDer)).toBe("O=SPIRE,C=US");
    }
  });
});

const { KeyUsageFlags } = x509;
const leafUsage = KeyUsageFlags.digitalSignature | KeyUsageFlags.keyEncipherment | KeyUsageFlags.keyAgreement;
const caUsage = KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign;

const webAlgorithms = {
  "ec-p256": { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  "ec-p384": { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" },
  "rsa-2048": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  "rsa-4096": { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
} as const;

const toWebKeys = async (key: LocalKey) => ({
  publicKey: await crypto.subtle.importKey(
    "spki",
    Buffer.from(exportPublicKeyInfo(key.publicKey)),
    webAlgorithms[key.type],
    true,
    ["verify"],
  ),
  privateKey: await crypto.subtle.importKey(
    "pkcs8",
    Buffer.from(exportPkcs8(key)),
    webAlgorithms[key.type],
    true,
    ["sign"],
  ),
});

interface Expectation {
  readonly issued: IssuedCertificate;
  readonly signer: LocalKey;
  readonly subject: x509.JsonNameParams;
  readonly issuer: x509.JsonNameParams;
  readonly subjectKey: LocalKey;
  readonly selfSigned: boolean;
  readonly ca: boolean;
  readonly dnsNames: readonly string[];
  readonly uri: string;
}

/** Builds the certificate again, by the other library alone, from what it is to say. */
async function rebuild(expected: Expectation): Promise<x509.X509Certificate> {
  const { issued, ca, dnsNames, uri, selfSigned } = expected;
  const signer = await toWebKeys(expected.signer);
  const subject = await toWebKeys(expected.subjectKey);
  const extensions: x509.Extension[] = [
    new x509.KeyUsagesExtension(ca ? caUsage : leafUsage, true),
    ...(ca ? [] : [new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"])]),
    new x509.BasicConstraintsExtension(ca, undefined, true),
    await x509.SubjectKeyIdentifierExtension.create(subject.publicKey),
    ...(selfSigned ? [] : [await x509.AuthorityKeyIdentifierExtension.create(signer.publicKey)]),
    new x509.SubjectAlternativeNameExtension([
      ...dnsNames.map((value) => ({ type: "dns" as const, value })),
      { type: "url", value: uri },
    ]),
  ];
  return x509.X509CertificateGenerator.create({
    serialNumber: BigInt(issued.serialNumber).toString(16),
    subject: new x509.Name(expected.subject),
    issuer: new x509.Name(expected.issuer),
    notBefore: new Date(issued.notBefore * 1000),
    notAfter: new Date(issued.notAfter * 1000),
    publicKey: subject.publicKey,
    signingKey: signer.privateKey,
    signingAlgorithm: webAlgorithms[expected.signer.type],
    extensions,
  });
}

const printable = /^[A-Za-z0-9 '()+,\-./:=?]*$/;

const nameOf = (...attributes: [string, string][]): x509.JsonNameParams =>
  attributes.map(([oid, value]) => ({
    [oid]: [printable.test(value) ? { printableString: value } : { utf8String: value }],
  }));

const C: [string, string] = ["2.5.4.6", "US"];
const organization = (value: string): [string, string] => ["2.5.4.10", value];

async function expectSameBytes(expected: Expectation): Promise<void> {
  const made = new x509.X509Certificate(Buffer.from(expected.issued.der));
  const other = await rebuild(expected);
  const tbs = (raw: ArrayBuffer) => Buffer.from(parseCertificate(new Uint8Array(raw)).tbs).toString("hex");
  expect(tbs(made.rawData)).toBe(tbs(other.rawData));
  const { publicKey } = await toWebKeys(expected.signer);
  expect(await made.verify({ publicKey, signatureOnly: true })).toBe(true);
  expect(BigInt(`0x${made.serialNumber}`).toString()).toBe(expected.issued.serialNumber);
}

const types = fc.constantFrom(...keyTypes);
const paths = fc
  .array(fc.stringMatching(/^[A-Za-z0-9_-]{1,60}$/), { minLength: 1, maxLength: 4 })
  .map((parts) => parts.map((part) => `/${part}`).join(""));
const dnsLists = fc.uniqueArray(fc.stringMatching(/^[a-z0-9*_]{1,20}(\.[a-z]{1,10}){0,3}$/), {
  maxLength: 4,
});
/** From 1970 to 2080, so that both kinds of time are met. */
const times = fc.integer({ min: 20, max: 3_471_292_800 });
const ttls = fc.integer({ min: 1, max: 10 * 365 * 86_400 });

describe("issued certificates have the bytes that @peculiar/x509 makes of the same content", () => {
  const withCa = async (type: KeyType, at: number) => {
    const key = keyOf(type);
    const ca = await issueSelfSignedCa({ key, trustDomain: td, ttlSeconds: 20 * 365 * 86_400 }, at);
    const name = nameOf(C, organization("SPIFFE"), ["2.5.4.5", ca.serialNumber]);
    return { key, ca, name, issuer: createIssuer(key, ca.der, []) };
  };

  test("workload SVIDs", async () => {
    await fc.assert(
      fc.asyncProperty(
        types,
        types,
        paths,
        dnsLists,
        times,
        ttls,
        async (caType, type, path, dnsNames, at, ttlSeconds) => {
          const { key, issuer, name } = await withCa(caType, at);
          const spiffeId = makeSpiffeId(td, path);
          const publicKeyInfo = exportPublicKeyInfo(keyOf(type).publicKey);
          const [first] = dnsNames;
          await expectSameBytes({
            issued: await issueWorkloadSvid(issuer, { spiffeId, publicKeyInfo, dnsNames, ttlSeconds }, at),
            signer: key,
            issuer: name,
            subject: nameOf(
              C,
              organization("SPIRE"),
              ...(first ? [["2.5.4.3", first] as [string, string]] : []),
            ),
            subjectKey: keyOf(type),
            selfSigned: false,
            ca: false,
            dnsNames,
            uri: spiffeId,
          });
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);

  test("agent and server SVIDs", async () => {
    await fc.assert(
      fc.asyncProperty(types, types, paths, fc.boolean(), times, async (caType, type, path, agent, at) => {
        const { key, issuer, name } = await withCa(caType, at);
        const spiffeId = agent ? agentId(td, path) : serverId(td);
        const publicKeyInfo = exportPublicKeyInfo(keyOf(type).publicKey);
        const issue = agent ? issueAgentSvid : issueServerSvid;
        await expectSameBytes({
          issued: await issue(issuer, { spiffeId, publicKeyInfo, ttlSeconds: 3_600 }, at),
          signer: key,
          issuer: name,
          subject: nameOf(C, organization("SPIRE")),
          subjectKey: keyOf(type),
          selfSigned: false,
          ca: false,
          dnsNames: [],
          uri: spiffeId,
        });
      }),
      { numRuns: 20 },
    );
  }, 60_000);

  test("downstream CAs", async () => {
    await fc.assert(
      fc.asyncProperty(
        types,
        types,
        fc.integer({ min: 1, max: 9 }),
        times,
        async (caType, type, chainLength, at) => {
          const { key, ca, issuer, name } = await withCa(caType, at);
          const publicKeyInfo = exportPublicKeyInfo(keyOf(type).publicKey);
          const parameters = { spiffeId: trustDomainId(td), publicKeyInfo, ttlSeconds: 3_600, chainLength };
          await expectSameBytes({
            issued: await issueDownstreamCa(issuer, parameters, at),
            signer: key,
            issuer: name,
            subject: nameOf(
              C,
              organization("SPIFFE"),
              ["2.5.4.11", `DOWNSTREAM-${chainLength}`],
              ["2.5.4.5", ca.serialNumber],
            ),
            subjectKey: keyOf(type),
            selfSigned: false,
            ca: true,
            dnsNames: [],
            uri: trustDomainId(td),
          });
        },
      ),
      { numRuns: 20 },
    );
  }, 60_000);

  test("self-signed CAs, with and without a configured subject", async () => {
    const subjects = fc.option(
      fc.record({
        country: fc.constant(["DE"]),
        organization: fc.constantFrom(["Acme, Inc."], ["Müller & Söhne"]),
        commonName: fc.constantFrom("", "ca_1", "root"),
      }),
      { nil: undefined },
    );
    await fc.assert(
      fc.asyncProperty(types, subjects, times, ttls, async (type, subject, at, ttlSeconds) => {
        const key = keyOf(type);
        const parameters = { key, trustDomain: td, ttlSeconds, ...(subject ? { subject } : {}) };
        const issued = await issueSelfSignedCa(parameters, at);
        const [organizationName = ""] = subject?.organization ?? [];
        const name = subject
          ? nameOf(
              ["2.5.4.6", "DE"],
              organization(organizationName),
              ...(subject.commonName ? [["2.5.4.3", subject.commonName] as [string, string]] : []),
              ["2.5.4.5", issued.serialNumber],
            )
          : nameOf(C, organization("SPIFFE"), ["2.5.4.5", issued.serialNumber]);
        await expectSameBytes({
          issued,
          signer: key,
          issuer: name,
          subject: name,
          subjectKey: key,
          selfSigned: true,
          ca: true,
          dnsNames: [],
          uri: trustDomainId(td),
        });
      }),
      { numRuns: 20 },
    );
  }, 60_000);
});

describe("an issued certificate", () => {
  const makeIssuer = async (ttlSeconds: number): Promise<Issuer> => {
    const key = keyOf("ec-p256");
    const { der } = await issueSelfSignedCa({ key, trustDomain: td, ttlSeconds }, now);
    return createIssuer(key, der, []);
  };
  const workload = (issuer: Issuer, ttlSeconds: number, at: number) => {
    const publicKeyInfo = exportPublicKeyInfo(keyOf("ec-p256").publicKey);
    return issueWorkloadSvid(
      issuer,
      { spiffeId: makeSpiffeId(td, "/w"), publicKeyInfo, ttlSeconds, dnsNames: [] },
      at,
    );
  };

  test("is valid from 10 s ago for its TTL", async () => {
    expect(await workload(await makeIssuer(86_400), 3_600, now)).toMatchObject({
      notBefore: now - 10,
      notAfter: now + 3_600,
    });
  });

  test("never outlives its CA", async () => {
    const issuer = await makeIssuer(600);
    expect((await workload(issuer, 3_600, now)).notAfter).toBe(now + 600);
  });

  test("is not made by a CA that has expired", async () => {
    const issuer = await makeIssuer(600);
    const attempt = async () => workload(issuer, 3_600, now + 601);
    expect(attempt()).rejects.toBeInstanceOf(SpireError);
  });

  test("reports what it holds", async () => {
    const issued = await workload(await makeIssuer(86_400), 3_600, now);
    const { serialNumber, notBefore, notAfter } = parseCertificate(issued.der);
    expect({ serialNumber, notBefore, notAfter }).toEqual({
      serialNumber: issued.serialNumber,
      notBefore: issued.notBefore,
      notAfter: issued.notAfter,
    });
  });

  test("has a serial number that spreads over 128 bits", async () => {
    const issuer = await makeIssuer(86_400);
    const issued = await Promise.all(Array.from({ length: 256 }, () => workload(issuer, 3_600, now)));
    const serials = issued.map(({ serialNumber }) => BigInt(serialNumber));
    expect(new Set(serials).size).toBe(256);
    expect(serials.every((serial) => serial > 0n && serial < 1n << 128n)).toBe(true);
    // A missing top bit would show here with a probability of 1 - 2^-256.
    expect(serials.some((serial) => serial >> 127n === 1n)).toBe(true);
    expect(serials.some((serial) => serial >> 127n === 0n)).toBe(true);
  });
});
