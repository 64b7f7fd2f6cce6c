import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError } from "../../core/errors.ts";
import { makeSpiffeId, parseSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import { parseEntriesFile } from "./entries-file.ts";

const trustDomain = parseTrustDomain("example.org");
const owner = { trustDomain, agentId: makeSpiffeId(trustDomain, "/spire/agent/join_token/t") };
const parse = (text: string) => parseEntriesFile(text, "e.yaml", owner);
const messageOf = (text: string) => {
  try {
    parse(text);
  } catch (error) {
    return error instanceof SpireError ? error.message : `not a SpireError: ${error}`;
  }
  return "no error";
};

const everyField = {
  entries: [
    {
      entry_id: "web-1",
      spiffe_id: "spiffe://example.org/web",
      parent_id: "spiffe://example.org/other",
      selectors: [
        { type: "unix", value: "uid:20" },
        { type: "docker", value: "label:a:b" },
      ],
      x509_svid_ttl: 200,
      jwt_svid_ttl: 30,
      federates_with: ["spiffe://other.test"],
      admin: true,
      downstream: true,
      entry_expiry: 1893456000,
      dns_names: ["d.test", "e.test"],
      store_svid: true,
      hint: "dh",
      additional_attributes: { disable_x509_svid_prefetch: true, jwt_svid_include_jti: true },
    },
  ],
};

describe("what a file may hold", () => {
  test("every field of SPIRE's JSON", () => {
    const { entries, warnings } = parse(JSON.stringify(everyField, undefined, "\t"));
    expect(warnings).toEqual([]);
    expect(entries.map(({ draft }) => draft)).toEqual([
      {
        id: "web-1",
        spiffeId: parseSpiffeId("spiffe://example.org/web"),
        parentId: parseSpiffeId("spiffe://example.org/other"),
        selectors: [
          { type: "docker", value: "label:a:b" },
          { type: "unix", value: "uid:20" },
        ],
        x509SvidTtl: 200,
        jwtSvidTtl: 30,
        federatesWith: [parseTrustDomain("other.test")],
        admin: true,
        downstream: true,
        expiresAt: 1893456000,
        dnsNames: ["d.test", "e.test"],
        storeSvid: true,
        hint: "dh",
        disableX509SvidPrefetch: true,
        jwtSvidIncludeJti: true,
      },
    ]);
  });

  test("the same as YAML, with paths and short selectors; the dev agent is the parent", () => {
    const { entries } = parse(
      "entries:\n- spiffe_id: /web\n  selectors: [unix:uid:20]\n- spiffe_id: /db\n  selectors:\n  - type: unix\n    value: uid:21\n",
    );
    expect(entries.map(({ draft }) => [draft.spiffeId, draft.parentId, draft.selectors])).toEqual([
      [parseSpiffeId("spiffe://example.org/web"), owner.agentId, [{ type: "unix", value: "uid:20" }]],
      [parseSpiffeId("spiffe://example.org/db"), owner.agentId, [{ type: "unix", value: "uid:21" }]],
    ]);
    expect(entries.map(({ place }) => place)).toEqual(["e.yaml:2:3", "e.yaml:4:3"]);
  });

  test("anchors and aliases", () => {
    const { entries } = parse(
      "entries:\n- spiffe_id: /a\n  selectors: &s [unix:uid:1]\n- spiffe_id: /b\n  selectors: *s\n",
    );
    expect(entries[1]?.draft.selectors).toEqual([{ type: "unix", value: "uid:1" }]);
  });

  test.each(["{}", '{"entries": []}', '{"entries": null}'])("no entries: %s", (text) => {
    expect(parse(text).entries).toEqual([]);
  });

  test("unknown fields are read past, with a warning that says where", () => {
    const { entries, warnings } = parse("entries:\n- spiffe_id: /a\n  selectors: [unix:uid:1]\n  note: x\n");
    expect(entries).toHaveLength(1);
    expect(warnings).toEqual(['e.yaml:4:3: unknown field "note" is ignored']);
  });

  test("entry IDs made here sort in the order of the file: the first entry is the default identity", () => {
    const text = `{"entries":[${Array.from({ length: 50 }, (_, n) => `{"spiffe_id":"/w${n}","selectors":["unix:uid:${n}"]}`).join()}]}`;
    const ids = parse(text).entries.map(({ draft }) => draft.id);
    expect([...ids].sort()).toEqual(ids);
  });
});

describe("what is broken is said with its place", () => {
  const good = "  selectors: [unix:uid:1]\n";
  test.each([
    ["", 'e.yaml:1:1: must be an object with a list "entries"'],
    ["not yaml at all", "e.yaml:1:1: must be an object"],
    ["[]", "e.yaml:1:1: must be an object"],
    ['{"entries": {}}', "e.yaml:1:13: must be a list"],
    ['{"entries": [1]}', "e.yaml:1:14: must be an object"],
    ["entries:\n- selectors: [unix:uid:1]\n", "e.yaml:2:3: spiffe_id is missing"],
    ["entries:\n- spiffe_id: /a\n", "e.yaml:2:3: selectors are missing: an entry needs at least one"],
    [
      "entries:\n- spiffe_id: /a\n  selectors: []\n",
      "e.yaml:2:3: selectors are missing: an entry needs at least one",
    ],
    [
      "entries:\n- spiffe_id: /a\n  selectors: [unix]\n",
      'e.yaml:3:15: selector "unix" must be formatted as type:value',
    ],
    ["entries:\n- spiffe_id: /a\n  selectors: [{type: unix}]\n", "e.yaml:3:15: missing selector value"],
    [`entries:\n- spiffe_id: /a/../b\n${good}`, "e.yaml:2:14: spiffe_id: path cannot contain dot segments"],
    [
      `entries:\n- spiffe_id: spiffe://other.test/a\n${good}`,
      'e.yaml:2:14: spiffe_id: "spiffe://other.test/a" is not in trust domain "example.org"',
    ],
    [
      `entries:\n- spiffe_id: /spire/x\n${good}`,
      'e.yaml:2:14: spiffe_id: "spiffe://example.org/spire/x" is reserved: /spire and what is below belongs to SPIRE',
    ],
    [
      `entries:\n- spiffe_id: 12\n${good}`,
      "e.yaml:2:14: must be text (in quotes, if it looks like a number)",
    ],
    [
      `entries:\n- spiffe_id: /a\n  x509_svid_ttl: -1\n${good}`,
      "e.yaml:3:18: must be a whole number, 0 or more",
    ],
    [`entries:\n- spiffe_id: /a\n  admin: maybe\n${good}`, "e.yaml:3:10: must be true or false"],
    [`entries:\n- spiffeId: /a\n${good}`, 'e.yaml:2:3: unknown field "spiffeId", did you mean "spiffe_id"?'],
    [
      `entries:\n- spiffe_id: /a\n${good}- spiffe_id: /a\n${good}`,
      "e.yaml:4:3: the same entry stands at e.yaml:2:3",
    ],
    [
      `entries:\n- entry_id: "a b"\n  spiffe_id: /a\n${good}`,
      "e.yaml:2:13: entry_id must be 1 to 255 letters, numbers, dots, dashes, underscores",
    ],
  ])("%j", (text, message) => {
    expect(messageOf(text)).toBe(message);
  });

  test.each(['{"entries": [', '{"entries": [{"spiffe_id": "/a"', "entries:\n- a: [\n", '{"a":1,"a":2}'])(
    "text that ends or repeats where it must not: %j",
    (text) => expect(messageOf(text)).toMatch(/^e\.yaml:\d+:\d+: ./),
  );

  test("any text is either read or refused with a place", () => {
    const piece = fc.constantFrom(
      "entries",
      ":",
      " ",
      "\n",
      "-",
      "[",
      "]",
      "{",
      "}",
      '"',
      "spiffe_id",
      "/a",
      "selectors",
      "unix:uid:1",
      "&a",
      "*a",
      "1",
      "null",
      "\t",
      "#",
      "?",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        expect(messageOf(pieces.join(""))).toMatch(/^(no error|e\.yaml:\d+:\d+: .+)$/s);
      }),
    );
  });
});
