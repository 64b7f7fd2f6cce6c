/** The three forms in which bans are handed to a restore. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseSpiffeId, parseTrustDomain } from "../core/spiffe-id.ts";
import { readBans } from "./kept-bans.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-bans-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const read = (content: string | object) => {
  const path = join(directory, "bans");
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return readBans(path, parseTrustDomain("example.org"));
};
const a = parseSpiffeId("spiffe://example.org/spire/agent/join_token/a");
const b = parseSpiffeId("spiffe://example.org/spire/agent/x509pop/b");

test("what agent list prints: those that are banned", () => {
  const agent = (path: string, banned: boolean) => ({ id: { trust_domain: "example.org", path }, banned });
  const agents = [agent("/spire/agent/join_token/a", true), agent("/spire/agent/x509pop/b", false)];
  expect(read({ agents, next_page_token: "" })).toEqual([a]);
});

test("what a dry run prints: the bans that it would undo", () => {
  expect(read({ dry_run: true, undone: { bans: [a, b], evictions: ["c"] } })).toEqual([a, b]);
});

test("a list of IDs, with comments, each once", () => {
  expect(read(`# stolen\n${a}\n\n${b} # lost\n${a}\n`)).toEqual([a, b]);
  expect(read([a])).toEqual([a]);
});

test.each([
  ["spiffe://example.org/web", /"spiffe:\/\/example.org\/web" is not the ID of an agent of "example.org"/],
  ["spiffe://other.test/spire/agent/x/y", /is not the ID of an agent/],
  ["{", /is not complete JSON/],
  ['{"entries":[]}', /is neither what .* nor a list of IDs/],
])("%s is refused", (content, reason) => {
  expect(() => read(content)).toThrow(reason);
});
