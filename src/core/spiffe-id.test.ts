import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError } from "./errors.ts";
import {
  agentId,
  isAgentId,
  isReserved,
  makeSpiffeId,
  parseSpiffeId,
  parseTrustDomain,
  parseTrustDomainOrId,
  pathOf,
  serverId,
  trustDomainId,
  trustDomainOf,
} from "./spiffe-id.ts";

const lowercase = [..."abcdefghijklmnopqrstuvwxyz"];
const shared = [..."0123456789.-_"];
const trustDomainCharacters = [...lowercase, ...shared];
const segmentCharacters = [...lowercase, ...lowercase.map((letter) => letter.toUpperCase()), ...shared];

const text = (characters: string[], maxLength: number) =>
  fc.string({ unit: fc.constantFrom(...characters), minLength: 1, maxLength });
const trustDomains = text(trustDomainCharacters, 255);
const segments = text(segmentCharacters, 30).filter((segment) => segment !== "." && segment !== "..");
const paths = fc.array(segments, { maxLength: 6 }).map((parts) => parts.map((part) => `/${part}`).join(""));

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof SpireError && error.code === "INVALID_ARGUMENT") return error.message;
    throw error;
  }
  return "accepted";
};

const trustDomainRule =
  "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores";
const segmentRule = "path segment characters are limited to letters, numbers, dots, dashes, and underscores";

describe("a SPIFFE ID", () => {
  test("of valid parts is taken as it is and gives its parts back", () => {
    fc.assert(
      fc.property(trustDomains, paths, (trustDomain, path) => {
        const id = parseSpiffeId(`spiffe://${trustDomain}${path}`);
        expect<string>(id).toBe(`spiffe://${trustDomain}${path}`);
        expect<string>(trustDomainOf(id)).toBe(trustDomain);
        expect(pathOf(id)).toBe(path);
        expect(makeSpiffeId(trustDomainOf(id), path)).toBe(id);
      }),
    );
  });

  test("has no character in its path but those of section 2.2", () => {
    const others = fc.string({ unit: "binary", minLength: 1, maxLength: 1 });
    fc.assert(
      fc.property(segments, others, segments, (before, character, after) => {
        fc.pre(!segmentCharacters.includes(character) && character !== "/");
        expect(refusal(() => parseSpiffeId(`spiffe://td/${before}${character}${after}`))).toBe(segmentRule);
      }),
    );
  });

  test("has no character in its trust domain but those of section 2.1", () => {
    const others = fc.string({ unit: "binary", minLength: 1, maxLength: 1 });
    fc.assert(
      fc.property(trustDomains, others, paths, (before, character, path) => {
        fc.pre(!trustDomainCharacters.includes(character) && character !== "/");
        expect(refusal(() => parseSpiffeId(`spiffe://${before}${character}${path}`))).toBe(trustDomainRule);
        expect(refusal(() => parseTrustDomain(before + character))).toBe(trustDomainRule);
      }),
    );
  });

  test("is never accepted unless it follows the standard's grammar", () => {
    const grammar = /^spiffe:\/\/[a-z0-9._-]{1,255}(\/(?!\.{1,2}(\/|$))[A-Za-z0-9._-]+)*$/;
    const pieces = fc.constantFrom(
      "spiffe://",
      "spiffe:",
      "//",
      "/",
      ".",
      "..",
      "a",
      "A",
      "%41",
      "?",
      "#",
      ":",
      "@",
      "é",
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 8 }), (parts) => {
        const candidate = parts.join("");
        expect(refusal(() => parseSpiffeId(candidate)) === "accepted").toBe(grammar.test(candidate));
      }),
      { numRuns: 2_000 },
    );
  });

  test.each([
    ["", "cannot be empty"],
    ["bogus", "scheme is missing or invalid"],
    ["https://td/a", "scheme is missing or invalid"],
    ["SPIFFE://td/a", "scheme is missing or invalid"],
    ["spiffe:/td/a", "scheme is missing or invalid"],
    ["spiffe://", "trust domain is missing"],
    ["spiffe:///a", "trust domain is missing"],
    ["spiffe://TD/a", trustDomainRule],
    ["spiffe://user@td/a", trustDomainRule],
    ["spiffe://td:8080/a", trustDomainRule],
    ["spiffe://[::1]/a", trustDomainRule],
    ["spiffe://t%64/a", trustDomainRule],
    ["spiffe://td?query", trustDomainRule],
    ["spiffe://td/a?query", segmentRule],
    ["spiffe://td/a#fragment", segmentRule],
    ["spiffe://td/%61", segmentRule],
    ["spiffe://td/a b", segmentRule],
    ["spiffe://td/a\n", segmentRule],
    ["spiffe://td/", "path cannot have a trailing slash"],
    ["spiffe://td/a/", "path cannot have a trailing slash"],
    ["spiffe://td//", "path cannot contain empty segments"],
    ["spiffe://td/a//b", "path cannot contain empty segments"],
    ["spiffe://td/a//b/", "path cannot contain empty segments"],
    ["spiffe://td/.", "path cannot contain dot segments"],
    ["spiffe://td/..", "path cannot contain dot segments"],
    ["spiffe://td/../a", "path cannot contain dot segments"],
    ["spiffe://td/a/./b", "path cannot contain dot segments"],
    ["spiffe://td/...", "accepted"],
    ["spiffe://td/.a", "accepted"],
    ["spiffe://1.2.3.4/a", "accepted"],
    ["spiffe://-._/a", "accepted"],
  ])("%p: %s", (candidate, outcome) => {
    expect(refusal(() => parseSpiffeId(candidate))).toBe(outcome);
  });

  test("has at most 2,048 bytes, its trust domain at most 255 (section 2.3)", () => {
    const padded = (size: number) => `spiffe://td/${"a".repeat(size - "spiffe://td/".length)}`;
    expect(refusal(() => parseSpiffeId(padded(2_048)))).toBe("accepted");
    expect(refusal(() => parseSpiffeId(padded(2_049)))).toBe("SPIFFE ID is longer than 2048 bytes");
    expect(refusal(() => parseTrustDomain("a".repeat(255)))).toBe("accepted");
    expect(refusal(() => parseTrustDomain("a".repeat(256)))).toBe("trust domain is longer than 255 bytes");
  });

  test("is made of a path with a leading slash only", () => {
    const td = parseTrustDomain("td");
    expect(refusal(() => makeSpiffeId(td, "a"))).toBe("path must have a leading slash");
    expect<string>(makeSpiffeId(td, "")).toBe("spiffe://td");
  });
});

describe("a trust domain", () => {
  test("is read from its name, its ID and any ID in it", () => {
    for (const form of ["example.org", "spiffe://example.org", "spiffe://example.org/a/b"]) {
      expect<string>(parseTrustDomainOrId(form)).toBe("example.org");
    }
    expect(refusal(() => parseTrustDomainOrId("http://example.org"))).toBe("scheme is missing or invalid");
    expect(refusal(() => parseTrustDomainOrId(""))).toBe("trust domain is missing");
  });
});

describe("SPIRE's own names", () => {
  const td = parseTrustDomain("example.org");

  test("are those of server and agents", () => {
    expect<string>(trustDomainId(td)).toBe("spiffe://example.org");
    expect<string>(serverId(td)).toBe("spiffe://example.org/spire/server");
    expect<string>(agentId(td, "/join_token/t")).toBe("spiffe://example.org/spire/agent/join_token/t");
  });

  test.each([
    ["spiffe://example.org", false, false],
    ["spiffe://example.org/spire", true, false],
    ["spiffe://example.org/spire/agent", true, false],
    ["spiffe://example.org/spire/agent/x", true, true],
    ["spiffe://example.org/spire/server", true, false],
    ["spiffe://example.org/spired", false, false],
    ["spiffe://example.org/a/spire/agent/x", false, false],
  ])("%s is reserved: %p, an agent: %p", (candidate, reserved, agent) => {
    const id = parseSpiffeId(candidate);
    expect(isReserved(id)).toBe(reserved);
    expect(isAgentId(id)).toBe(agent);
  });
});
