/** What a stock server answers where no recorded call shows it: calls in order, each group to a server of its own. */
import type { JsonValue } from "@bufbuild/protobuf";

export interface Step {
  readonly method: string;
  readonly request: JsonValue;
  /** OK when it is left out. */
  readonly code?: string;
  /** The whole message; any when it is left out. */
  readonly message?: string;
  /** Of a batch, in order: its code, and its message unless that is OK. */
  readonly statuses?: readonly (readonly [code: number, message?: string])[];
  /** Fields that the answer has, among others. */
  readonly answer?: JsonValue;
  /** The whole answer. */
  readonly whole?: JsonValue;
}

const id = (path: string, trustDomain = "example.org") => ({ trustDomain, path });
const uid = { type: "unix", value: "uid:0" };
const gid = { type: "unix", value: "gid:0" };
const docker = { type: "docker", value: "label:a:b" };

const entry = (name: string, fields: { [key: string]: JsonValue } = {}): { [key: string]: JsonValue } => ({
  id: name,
  spiffeId: id(`/${name}`),
  parentId: id("/parent"),
  selectors: [uid],
  ...fields,
});

const call =
  (service: string) =>
  (name: string, request: JsonValue, expected: Omit<Step, "method" | "request"> = {}) => ({
    method: `spire.api.server.${service}/${name}`,
    request,
    ...expected,
  });
const entries = call("entry.v1.Entry");
const bundles = call("bundle.v1.Bundle");
const domains = call("trustdomain.v1.TrustDomain");
const agents = call("agent.v1.Agent");
const svids = call("svid.v1.SVID");

const create = (...drafts: JsonValue[]) =>
  entries("BatchCreateEntry", { entries: drafts }, { statuses: drafts.map(() => [0] as const) });
const refusedEntry = (draft: JsonValue, message: string, code = 3) =>
  entries("BatchCreateEntry", { entries: [draft] }, { statuses: [[code, message]] });
const listed = (filter: JsonValue, ...ids: string[]) =>
  entries(
    "ListEntries",
    { filter, outputMask: {} },
    { whole: { entries: ids.map((name) => ({ id: name })) } },
  );
const page = (request: { [key: string]: JsonValue }, whole: JsonValue) =>
  entries("ListEntries", { ...request, outputMask: {} }, { whole });

const storable = "failed to create entry: datastore-validation";
const badName = "failed to convert entry: invalid DNS name";
const twoTypes = { storeSvid: true, selectors: [uid, docker] };
const notAgent = "path is not in the agent namespace";

/** A P-256 key in SubjectPublicKeyInfo. */
const publicKey =
  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZK5SSg60qAlgFWY2Z1w6U1DDnI2yW5huelcVLwHllLDgT2Pny24EfwgjVENAXjbpx83ZuoS25IedYglFPQywLQ==";

const relationship = (
  trustDomain: string,
  bundleEndpointUrl: string,
  more: { [key: string]: JsonValue } = {},
) => ({
  trustDomain,
  bundleEndpointUrl,
  httpsWeb: {},
  ...more,
});

export const stockAnswers: Readonly<Record<string, readonly Step[]>> = {
  "a page with entries names the next one, even if that is empty": [
    create(entry("a"), entry("b"), entry("c")),
    page({ pageSize: 2 }, { entries: [{ id: "a" }, { id: "b" }], nextPageToken: "2" }),
    page({ pageSize: 2, pageToken: "2" }, { entries: [{ id: "c" }], nextPageToken: "3" }),
    page({ pageSize: 2, pageToken: "3" }, {}),
    page({ pageSize: 9 }, { entries: [{ id: "a" }, { id: "b" }, { id: "c" }], nextPageToken: "3" }),
    entries("ListEntries", { pageSize: 1, pageToken: "9223372036854775808" }, { code: "INTERNAL" }),
    bundles("ListFederatedBundles", { pageSize: 5 }, { whole: { nextPageToken: "1" } }),
  ],
  "an empty hint, and false for downstream, filter nothing": [
    create(entry("a", { hint: "x", downstream: true }), entry("b")),
    listed({ byHint: "" }, "a", "b"),
    listed({ byDownstream: false }, "a", "b"),
    listed({ byHint: "x" }, "a"),
    listed({ byDownstream: true }, "a"),
    entries("CountEntries", { filter: { byHint: "", byDownstream: false } }, { whole: { count: 2 } }),
    entries(
      "ListEntries",
      { filter: { byParentId: id("") } },
      {
        code: "INVALID_ARGUMENT",
        message:
          'malformed parent ID filter: "spiffe://example.org" is not a member of trust domain "example.org"; path is empty',
      },
    ),
  ],
  "selectors and DNS names are sorted for the writer, and in their order for the reader": [
    entries(
      "BatchCreateEntry",
      { entries: [entry("a", { selectors: [uid, gid, docker], dnsNames: ["b.test", "a.test"] })] },
      { answer: { results: [{ entry: { selectors: [docker, gid, uid], dnsNames: ["a.test", "b.test"] } }] } },
    ),
    entries(
      "GetEntry",
      { id: "a" },
      { answer: { selectors: [uid, gid, docker], dnsNames: ["b.test", "a.test"] } },
    ),
    entries(
      "BatchCreateEntry",
      { entries: [entry("a", { id: "b", selectors: [docker, gid, uid] })] },
      {
        statuses: [[6, "similar entry already exists"]],
        answer: { results: [{ entry: { id: "a", selectors: [uid, gid, docker] } }] },
      },
    ),
    entries(
      "BatchUpdateEntry",
      { entries: [{ id: "a", selectors: [uid, gid] }], inputMask: { selectors: true } },
      { answer: { results: [{ entry: { selectors: [gid, uid], dnsNames: ["a.test", "b.test"] } }] } },
    ),
    entries(
      "ListEntries",
      {},
      { answer: { entries: [{ selectors: [uid, gid], dnsNames: ["b.test", "a.test"] }] } },
    ),
  ],
  "of several mistakes in an entry, the same one is told first": [
    refusedEntry(
      entry("a", { dnsNames: [""], federatesWith: ["!"], selectors: [] }),
      `${badName}: empty or only whitespace`,
    ),
    refusedEntry(
      entry("a", { federatesWith: ["!"], selectors: [] }),
      "failed to convert entry: invalid federated trust domain: trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores",
    ),
    refusedEntry(
      entry("a", { federatesWith: ["z.test", "b.test"] }),
      'failed to create entry: unable to find federated bundle "spiffe://z.test"',
      13,
    ),
    refusedEntry(
      entry("a", { ...twoTypes, x509SvidTtl: -1, id: "a b" }),
      `${storable}: invalid registration entry: selector types must be the same when store SVID is enabled`,
    ),
    refusedEntry(
      entry("a", { ...twoTypes, additionalAttributes: { disableX509SvidPrefetch: true } }),
      `${storable}: specifying cache behaviour is incompatible with storable SVIDs`,
    ),
  ],
  "DNS names are judged alike": [
    refusedEntry(entry("a", { dnsNames: ["*."] }), `${badName}: empty or only whitespace`),
    refusedEntry(entry("a", { dnsNames: ["*.*.test"] }), `${badName}: too many wildcards`),
    refusedEntry(entry("a", { dnsNames: ["ä.test"] }), `${badName}: name must be ascii`),
    refusedEntry(
      entry("a", { dnsNames: ["ab--c.test"] }),
      `${badName}: idna error\nidna: invalid label "ab--c"`,
    ),
    create(entry("a", { dnsNames: ["xn--mnchen-3ya.de", "*.a.test", "b.a.test"] })),
  ],
  "what is tainted is not for a caller to say": [
    bundles(
      "AppendBundle",
      { jwtAuthorities: [{ publicKey, keyId: "k", tainted: true }], outputMask: {} },
      { whole: { trustDomain: "example.org" } },
    ),
    bundles(
      "BatchSetFederatedBundle",
      { bundle: [{ trustDomain: "fed.test", jwtAuthorities: [{ publicKey, keyId: "k", tainted: true }] }] },
      {
        whole: {
          results: [
            {
              status: { message: "OK" },
              bundle: { trustDomain: "fed.test", jwtAuthorities: [{ publicKey, keyId: "k" }] },
            },
          ],
        },
      },
    ),
    bundles(
      "AppendBundle",
      { x509Authorities: [{ asn1: "AAAA" }], jwtAuthorities: [{ publicKey }] },
      { code: "INVALID_ARGUMENT", message: "failed to convert JWT authority: missing key ID" },
    ),
  ],
  "a new federation relationship is answered with the bundle that came along, not with an earlier one": [
    bundles("BatchSetFederatedBundle", { bundle: [{ trustDomain: "fed.test", refreshHint: 60 }] }),
    domains(
      "BatchCreateFederationRelationship",
      { federationRelationships: [relationship("fed.test", "https://fed.test/")] },
      {
        whole: {
          results: [
            {
              status: { message: "OK" },
              federationRelationship: relationship("fed.test", "https://fed.test/"),
            },
          ],
        },
      },
    ),
    domains(
      "GetFederationRelationship",
      { trustDomain: "fed.test" },
      { answer: { trustDomainBundle: { refreshHint: "60" } } },
    ),
  ],
  "federation relationships are answered in the form of their URLs and names": [
    domains(
      "BatchCreateFederationRelationship",
      { federationRelationships: [relationship("fed.test", "HTTPS://fed.test/a b/ü")] },
      {
        answer: {
          results: [{ federationRelationship: { bundleEndpointUrl: "https://fed.test/a%20b/%C3%BC" } }],
        },
      },
    ),
    domains(
      "BatchCreateFederationRelationship",
      {
        federationRelationships: [
          relationship("b.test", "https://b.test", { trustDomainBundle: {} }),
          relationship("b.test", "https://b.test", {
            trustDomainBundle: { trustDomain: "spiffe://c.test/x" },
          }),
          relationship("b.test", "https://b.test", {
            trustDomainBundle: { trustDomain: "c.test", jwtAuthorities: [{ publicKey }] },
          }),
        ],
      },
      {
        statuses: [
          [
            3,
            "failed to convert federation relationship: failed to parse bundle: invalid trust domain: trust domain is missing",
          ],
          [
            3,
            'failed to convert federation relationship: trust domain bundle ("spiffe://c.test/x") must match the trust domain of the federation relationship ("b.test")',
          ],
          [
            3,
            "failed to convert federation relationship: failed to parse bundle: unable to parse JWT authority: missing key ID",
          ],
        ],
      },
    ),
    domains(
      "BatchDeleteFederationRelationship",
      { trustDomains: ["spiffe://fed.test/x", "spiffe://fed.test", "!"] },
      {
        answer: { results: [{ trustDomain: "fed.test" }, { trustDomain: "fed.test" }, { trustDomain: "!" }] },
        statuses: [[0], [5, "federation relationship not found"], [3]],
      },
    ),
  ],
  "agents are named and counted in the same words": [
    agents(
      "GetAgent",
      { id: id("") },
      {
        code: "INVALID_ARGUMENT",
        message:
          'invalid agent ID: "spiffe://example.org" is not an agent in trust domain "example.org"; path is empty',
      },
    ),
    agents(
      "GetAgent",
      { id: id("/a") },
      {
        code: "INVALID_ARGUMENT",
        message: `invalid agent ID: "spiffe://example.org/a" is not an agent in trust domain "example.org"; ${notAgent}`,
      },
    ),
    agents(
      "CountAgents",
      { filter: { bySelectorMatch: {} } },
      {
        code: "INTERNAL",
        message: "failed to count agents: cannot list by empty selectors set",
      },
    ),
    agents("CreateJoinToken", { ttl: 9, token: "a/b", agentId: id("/alias") }, { code: "INVALID_ARGUMENT" }),
  ],
  "JWT authorities of others are revoked only when they are tainted": [
    bundles("AppendBundle", { jwtAuthorities: [{ publicKey, keyId: "others" }] }),
    call("localauthority.v1.LocalAuthority")(
      "RevokeJWTAuthority",
      { authorityId: "others" },
      {
        code: "INTERNAL",
        message: "failed to revoke JWT authority: it is not possible to revoke an untainted key",
      },
    ),
    call("localauthority.v1.LocalAuthority")(
      "RevokeJWTAuthority",
      { authorityId: "nobodys" },
      {
        code: "INVALID_ARGUMENT",
        message: "invalid authority ID: no JWT authority found with provided authority ID",
      },
    ),
  ],
  "a number that can't be held is the caller's mistake": [
    entries(
      "BatchCreateEntry",
      { entries: [entry("a", { expiresAt: "9223372036854775807" })] },
      {
        code: "INVALID_ARGUMENT",
        message: "request has a number beyond 2^53 - 1",
      },
    ),
    svids("MintJWTSVID", { id: id("/a"), audience: ["a"], ttl: 2_147_483_647 }),
  ],
};
