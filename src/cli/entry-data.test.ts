import { describe, expect, test } from "bun:test";
import { parseEntryJson, readEntryDocument, spiffeIdMessage, splitSelector } from "./entry-data.ts";

const entry = {
  entry_id: "web",
  spiffe_id: "spiffe://example.org/web",
  parent_id: "spiffe://example.org/node",
  selectors: [{ type: "unix", value: "uid:1000" }],
  x509_svid_ttl: 60,
  jwt_svid_ttl: 30,
  federates_with: ["spiffe://other.test"],
  dns_names: ["web.test"],
  admin: true,
  downstream: true,
  store_svid: true,
  entry_expiry: 4_102_444_800,
  hint: "h",
  additional_attributes: { disable_x509_svid_prefetch: true, jwt_svid_include_jti: true },
};

describe("a document of entries", () => {
  test("gives each field to the message", () => {
    const { entries, warnings } = readEntryDocument({ entries: [entry] });
    expect(warnings).toEqual([]);
    expect(entries[0]).toMatchObject({
      id: "web",
      spiffeId: { trustDomain: "example.org", path: "/web" },
      parentId: { trustDomain: "example.org", path: "/node" },
      selectors: [{ type: "unix", value: "uid:1000" }],
      x509SvidTtl: 60,
      jwtSvidTtl: 30,
      federatesWith: ["spiffe://other.test"],
      dnsNames: ["web.test"],
      admin: true,
      downstream: true,
      storeSvid: true,
      expiresAt: 4_102_444_800,
      hint: "h",
      additionalAttributes: { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true },
    });
  });

  test("may have no entries, nulls, and names in another case", () => {
    expect(readEntryDocument({}).entries).toEqual([]);
    expect(readEntryDocument({ entries: null }).entries).toEqual([]);
    expect(readEntryDocument({ Entries: [{ ...entry, hint: null }] }).entries[0]?.hint).toBe("");
  });

  test("warns of fields that are unknown, with the nearest known one", () => {
    expect(readEntryDocument({ entries: [{ ...entry, dns_name: [] }], bogus: 1 }).warnings).toEqual([
      "unknown field bogus is ignored",
      "unknown field entries[0].dns_name is ignored, did you mean dns_names?",
    ]);
  });

  test.each([
    [[], "the document must be an object"],
    [{ entries: {} }, "entries must be a list"],
    [{ entries: [1] }, "entries[0] must be an object"],
    [{ entries: [{ ...entry, admin: "yes" }] }, "entries[0].admin must be true or false"],
    [{ entries: [{ ...entry, x509_svid_ttl: "60" }] }, "entries[0].x509_svid_ttl must be a whole number"],
    [{ entries: [{ ...entry, dns_names: [1] }] }, "entries[0].dns_names[0] must be a string"],
    [{ entries: [{ ...entry, selectors: [null] }] }, "entries[0].selectors[0] must be an object"],
    [{ entries: [{ ...entry, spiffe_id: undefined }] }, "invalid SPIFFE ID: cannot be empty"],
    [{ entries: [{ ...entry, parent_id: "x" }] }, "invalid parent ID: scheme is missing or invalid"],
  ])("%j is refused with the place that is wrong", (document, message) => {
    expect(() => readEntryDocument(document)).toThrow(message);
  });

  test("that is no JSON is refused", () => {
    expect(() => parseEntryJson("{")).toThrow("unable to parse JSON");
  });
});

test("selectors are split at the first colon and not judged", () => {
  expect(splitSelector("unix:uid:0")).toEqual({ type: "unix", value: "uid:0" });
  expect(splitSelector(":v")).toEqual({ type: "", value: "v" });
  expect(() => splitSelector("bogus")).toThrow('selector "bogus" must be formatted as type:value');
});

test("SPIFFE IDs become messages", () => {
  expect(spiffeIdMessage("spiffe://example.org/a/b")).toEqual({ trustDomain: "example.org", path: "/a/b" });
  expect(() => spiffeIdMessage("spiffe://example.org/a/")).toThrow("path cannot have a trailing slash");
});
