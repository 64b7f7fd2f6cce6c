import { describe, expect, test } from "bun:test";
import { parseBundleFormat } from "./bundle-data.ts";
import { parseRelationshipDocument } from "./federation-data.ts";

const document = (...items: readonly object[]): string => JSON.stringify({ federationRelationships: items });

const web = {
  trustDomain: "other.test",
  bundleEndpointURL: "https://other.test/bundle",
  bundleEndpointProfile: "https_web",
};

const parsed = {
  trustDomain: "other.test",
  bundleEndpointUrl: "https://other.test/bundle",
  bundleEndpointProfile: { $case: "httpsWeb", value: {} },
};

describe("a document of relationships", () => {
  test("is read without regard to the case of names, as Go's JSON does", () => {
    expect(parseRelationshipDocument(document(web))).toMatchObject([parsed]);
    const text = document(web).replace(/"[a-z]+[A-Z]\w+":/g, (name) => name.toUpperCase());
    expect(text).toContain('"FEDERATIONRELATIONSHIPS":');
    expect(parseRelationshipDocument(text)).toMatchObject([parsed]);
    const spiffe = {
      ...web,
      bundleEndpointProfile: "https_spiffe",
      endpointSpiffeID: "spiffe://other.test/server",
    };
    expect(parseRelationshipDocument(document(spiffe))).toMatchObject([
      {
        bundleEndpointProfile: {
          $case: "httpsSpiffe",
          value: { endpointSpiffeId: "spiffe://other.test/server" },
        },
      },
    ]);
  });

  test("may say nothing", () => {
    for (const text of ["null", "{}", '{"federationRelationships":null}'])
      expect(parseRelationshipDocument(text)).toEqual([]);
  });

  test("is refused with the number of the item that is wrong", () => {
    const { bundleEndpointURL: _, ...without } = web;
    expect(() => parseRelationshipDocument(document(web, without))).toThrow(
      "could not parse item 1: bundle endpoint URL is required",
    );
    expect(() => parseRelationshipDocument("[]")).toThrow("the document is not an object");
  });
});

test("a bundle's format is PEM unless said, in any case", () => {
  expect(["", "PEM", "Spiffe"].map(parseBundleFormat)).toEqual(["pem", "pem", "spiffe"]);
  expect(() => parseBundleFormat("der")).toThrow('invalid format: "der"');
});
