/** What a node's certificate says of the node: selectors, and the fields of agent path templates. */
import { hash } from "node:crypto";
import type { TemplateData } from "../../../core/agent-path-template.ts";
import { type GoStruct, stringMap, type Value } from "../../../core/go-template/values.ts";
import { canonicalIp } from "../../../core/ip-address.ts";
import type { Certificate } from "../../../core/x509/certificate.ts";
import { decodeName, formatSubject } from "../../../core/x509/name.ts";

/** Lowercase hex of the SHA-1 of the whole certificate. */
const fingerprintOf = ({ der }: Certificate): string => hash("sha1", der);

/** Lowercase, of even length. */
const serialNumberHex = ({ serialNumber }: Certificate): string => {
  const digits = BigInt(serialNumber).toString(16);
  return digits.padStart(digits.length + (digits.length % 2), "0");
};

/** Values of the selectors, in SPIRE's order. @param chains from the leaf to a root each. */
export function selectorValues(
  leaf: Certificate,
  chains: readonly (readonly Certificate[])[],
  sanSelectors: ReadonlyMap<string, string>,
): readonly string[] {
  const commonName = commonNameOf(leaf);
  const authorities = new Set(chains.flatMap((chain) => chain.slice(1).map(fingerprintOf)));
  return [
    ...(commonName === "" ? [] : [`subject:cn:${commonName}`]),
    ...[...authorities].map((fingerprint) => `ca:fingerprint:${fingerprint}`),
    `serialnumber:${serialNumberHex(leaf)}`,
    ...[...sanSelectors].map(([key, value]) => `san:${key}:${value}`),
  ];
}

const commonNameOf = ({ subjectDer }: Certificate): string => decodeName(subjectDer).commonName?.[0] ?? "";

/**
 * Keys and values of URI names such as `x509pop://<trust domain>/<key>/<value>`.
 * @param onUnfit called with each such URI that has no value.
 */
export function sanSelectorsOf(
  { uris }: Certificate,
  trustDomain: string,
  onUnfit: (uri: string) => void,
): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const uri of uris) {
    const [, rest] = /^x509pop:\/\/([^?#]*)/i.exec(uri) ?? [];
    if (!rest?.startsWith(`${trustDomain}/`)) continue;
    const [, key = "", value] =
      /^([^/]*)\/(.*)$/s.exec(trimSlashes(decoded(rest.slice(trustDomain.length)))) ?? [];
    if (value === undefined) onUnfit(uri);
    else found.set(key, value);
  }
  return found;
}

/** Not by a pattern for both ends: its time would grow with the square of a run of slashes in the middle. */
function trimSlashes(path: string): string {
  let end = path.length;
  while (path[end - 1] === "/") end -= 1;
  return path.slice(0, end).replace(/^\/+/, "");
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

export interface NamingFacts {
  readonly pluginName: string;
  readonly trustDomain: string;
  /** Of mode `spiffe`; else empty. */
  readonly svidPath: string;
  readonly sanSelectors: ReadonlyMap<string, string>;
}

/** The fields that a template may name. */
export const templateFields = [
  "PluginName",
  "TrustDomain",
  "Fingerprint",
  "SerialNumberHex",
  "SVIDPathTrimmed",
  "URISanSelectors",
  "SerialNumber",
  "Subject",
  "Issuer",
  "DNSNames",
  "IPAddresses",
  "URIs",
  "SubjectKeyId",
  "AuthorityKeyId",
  "Raw",
  "RawSubject",
  "RawIssuer",
  "RawSubjectPublicKeyInfo",
  "IsCA",
] as const;

/** The fields of SPIRE's x509pop, and of the certificate what Go's x509.Certificate has of it. */
export function templateData(leaf: Certificate, facts: NamingFacts): TemplateData {
  const data: Record<(typeof templateFields)[number], Value> = {
    PluginName: facts.pluginName,
    TrustDomain: facts.trustDomain,
    Fingerprint: fingerprintOf(leaf),
    SerialNumberHex: serialNumberHex(leaf),
    SVIDPathTrimmed: facts.svidPath,
    URISanSelectors: stringMap(facts.sanSelectors),
    SerialNumber: bigNumber(BigInt(leaf.serialNumber)),
    Subject: nameData(leaf.subjectDer),
    Issuer: nameData(leaf.issuerDer),
    DNSNames: leaf.dnsNames,
    IPAddresses: leaf.ipAddresses.map(ipAddress),
    URIs: leaf.uris.map(urlData),
    SubjectKeyId: leaf.subjectKeyId ?? new Uint8Array(),
    AuthorityKeyId: leaf.authorityKeyId ?? new Uint8Array(),
    Raw: leaf.der,
    RawSubject: leaf.subjectDer,
    RawIssuer: leaf.issuerDer,
    RawSubjectPublicKeyInfo: leaf.publicKeyInfo,
    IsCA: leaf.isCa,
  };
  return data;
}

const textual = (type: string, text: string, fields: GoStruct["fields"] = {}): GoStruct => ({
  kind: "struct",
  type,
  text,
  fields: { String: () => text, ...fields },
});

const bigNumber = (integer: bigint): GoStruct => ({ ...textual("*big.Int", integer.toString()), integer });

function ipAddress(bytes: Uint8Array): GoStruct {
  const groups = Buffer.from(bytes).toString("hex").match(/.{4}/g) ?? [];
  const text = bytes.length === 4 ? bytes.join(".") : (canonicalIp(groups.join(":")) ?? "");
  return textual("net.IP", text);
}

function nameData(der: Uint8Array): GoStruct {
  const name = decodeName(der);
  return textual("pkix.Name", formatSubject(der), {
    Country: name.country ?? [],
    Organization: name.organization ?? [],
    OrganizationalUnit: name.organizationalUnit ?? [],
    Locality: name.locality ?? [],
    Province: name.province ?? [],
    StreetAddress: name.streetAddress ?? [],
    PostalCode: name.postalCode ?? [],
    SerialNumber: name.serialNumber?.[0] ?? "",
    CommonName: name.commonName?.[0] ?? "",
  });
}

/** RFC 3986, appendix B. */
const urlParts = /^(?:([^:/?#]+):)?(?:\/\/([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s;

function urlData(uri: string): Value {
  const [, scheme = "", host = "", path = "", query = "", fragment = ""] = urlParts.exec(uri) ?? [];
  return textual("*url.URL", uri, {
    Scheme: scheme.toLowerCase(),
    Host: host,
    Hostname: () => host.replace(/:\d*$/, ""),
    Path: decoded(path),
    EscapedPath: () => path,
    RawQuery: query,
    Fragment: decoded(fragment),
  });
}
