import { describe, expect, test } from "bun:test";
import { makeSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import { parseEntryOption, userEntry } from "./declared-entries.ts";

const trustDomain = parseTrustDomain("example.org");
const owner = { trustDomain, agentId: makeSpiffeId(trustDomain, "/spire/agent/join_token/t") };

describe("--entry", () => {
  test.each([
    ["/web=unix:uid:1", "spiffe://example.org/web", ["uid:1"]],
    ["web/a=unix:uid:1", "spiffe://example.org/web/a", ["uid:1"]],
    ["spiffe://example.org/web=unix:uid:1,unix:gid:2", "spiffe://example.org/web", ["gid:2", "uid:1"]],
    ["/web=unix:path:/a=b", "spiffe://example.org/web", ["path:/a=b"]],
  ])("%s", (text, id, values) => {
    const draft = parseEntryOption(text, owner);
    expect<string>(draft.spiffeId).toBe(id);
    expect(draft.selectors.map(({ value }) => value)).toEqual(values);
    expect(draft.parentId).toBe(owner.agentId);
  });

  test.each([
    ["/web", "must be formatted as ID=selector[,selector]"],
    ["=unix:uid:1", "SPIFFE ID is empty"],
    ["/web=", 'selector "" must be formatted as type:value'],
    ["/web=unix:uid:1,", 'selector "" must be formatted as type:value'],
    ["/web=unix", 'selector "unix" must be formatted as type:value'],
    ["/=unix:uid:1", "path cannot have a trailing slash"],
    [
      "/spire/x=unix:uid:1",
      '"spiffe://example.org/spire/x" is reserved: /spire and what is below belongs to SPIRE',
    ],
    ["spiffe://example.org=unix:uid:1", '"spiffe://example.org" has no path'],
    ["spiffe://other.test/a=unix:uid:1", '"spiffe://other.test/a" is not in trust domain "example.org"'],
    ["https://example.org/a=unix:uid:1", "scheme is missing or invalid"],
  ])("%s is refused", (text, reason) => {
    expect(() => parseEntryOption(text, owner)).toThrow(`--entry "${text}": ${reason}`);
  });
});

describe("without entries the user gets one", () => {
  test.each([
    ["alice", "/alice"],
    ["Alice.B_c-d", "/Alice.B_c-d"],
    [undefined, "/uid-1000"],
    ["", "/uid-1000"],
    ["a b", "/uid-1000"],
    ["a/b", "/uid-1000"],
    ["jörg", "/uid-1000"],
    ["..", "/uid-1000"],
    ["spire", "/uid-1000"],
    ["user$", "/uid-1000"],
  ])("of the name %p: %s", (name, path) => {
    const draft = userEntry({ uid: 1000, name }, owner);
    expect<string>(draft.spiffeId).toBe(`spiffe://example.org${path}`);
    expect(draft.selectors).toEqual([{ type: "unix", value: "uid:1000" }]);
  });
});
