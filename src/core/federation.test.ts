import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError } from "./errors.ts";
import { equalRelationships, type FederationRelationship, requireBundleEndpointUrl } from "./federation.ts";
import { parseSpiffeId, parseTrustDomain } from "./spiffe-id.ts";

const refusal = (url: string): string => {
  try {
    requireBundleEndpointUrl(url);
    return "";
  } catch (error) {
    return SpireError.from(error).message;
  }
};

describe("a bundle endpoint URL", () => {
  test.each([
    "https://a.test",
    "https://a.test:8443/b?c=d",
    "https://a.test/%20%C3%BC",
    "https://[::1]:1/",
    "https://1.2.3.4",
  ])("%s is kept as it is", (url) => expect(requireBundleEndpointUrl(url)).toBe(url));

  test.each([
    ["HTTPS://a.test/B", "https://a.test/B"],
    ["https://a.test/a b", "https://a.test/a%20b"],
    ["https://a.test/ü", "https://a.test/%C3%BC"],
    ["https://ü.test/", "https://%C3%BC.test/"],
  ])("%s becomes %s", (given, url) => expect(requireBundleEndpointUrl(given)).toBe(url));

  test.each([
    ["http://a.test/", "bundle endpoint URL must use the https scheme"],
    ["a.test/b", "bundle endpoint URL must use the https scheme"],
    ["", "bundle endpoint URL must use the https scheme"],
    ["https:///b", "bundle endpoint URL must specify the host"],
    ["https:b", "bundle endpoint URL must specify the host"],
    ["https://:8443/b", "bundle endpoint URL must specify the host"],
    ["https://u:p@a.test/", "bundle endpoint URL must not contain user info"],
    ["https://@a.test/", "bundle endpoint URL must not contain user info"],
    ["://", 'failed to parse bundle endpoint URL: parse "://": missing protocol scheme'],
    [
      " https://a.test",
      'failed to parse bundle endpoint URL: parse " https://a.test": first path segment in URL cannot contain colon',
    ],
    [
      "https://a.test/%zz",
      'failed to parse bundle endpoint URL: parse "https://a.test/%zz": invalid URL escape "%zz"',
    ],
    [
      "https://a.test/\n",
      'failed to parse bundle endpoint URL: parse "https://a.test/\\n": net/url: invalid control character in URL',
    ],
    ["https://a b/", 'failed to parse bundle endpoint URL: parse "https://a b/": invalid URL'],
    [
      "https://a.test:99999/",
      'failed to parse bundle endpoint URL: parse "https://a.test:99999/": invalid URL',
    ],
  ])("%s is refused", (url, reason) => expect(refusal(url)).toBe(reason));

  test("that is accepted names an https host without user information to the URL parser as well", () => {
    const part = fc.constantFrom(
      "https",
      "http",
      ":",
      "/",
      "//",
      "@",
      "a.test",
      "1.2.3.4",
      "[::1]",
      "?",
      "#",
      "\\",
      " ",
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const text = parts.join("");
        if (refusal(text) !== "") return;
        const url = new URL(text);
        expect([url.protocol, url.username, url.password]).toEqual(["https:", "", ""]);
        expect(url.hostname).not.toBe("");
      }),
    );
  });
});

test("relationships are equal when all of their parts are", () => {
  const web: FederationRelationship = {
    trustDomain: parseTrustDomain("a.test"),
    bundleEndpointUrl: "https://a.test/",
    profile: { type: "https_web" },
  };
  const endpointSpiffeId = parseSpiffeId("spiffe://a.test/e");
  const spiffe: FederationRelationship = { ...web, profile: { type: "https_spiffe", endpointSpiffeId } };
  expect(equalRelationships(web, { ...web })).toBe(true);
  expect(equalRelationships(spiffe, { ...spiffe })).toBe(true);
  expect(equalRelationships(web, spiffe)).toBe(false);
  expect(equalRelationships(web, { ...web, bundleEndpointUrl: "https://a.test/2" })).toBe(false);
});
