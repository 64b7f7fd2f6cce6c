import { expect, test } from "bun:test";
import { Entry } from "../rpc/gen/spire/api/types/entry.ts";
import { inListingOrder } from "./entry-print.ts";

const entry = (id: string, fields: Parameters<typeof Entry.fromPartial>[0] = {}): Entry =>
  Entry.fromPartial({
    id,
    spiffeId: { trustDomain: "example.org", path: "/web" },
    parentId: { trustDomain: "example.org", path: "/node" },
    selectors: [{ type: "unix", value: "uid:0" }],
    ...fields,
  });

test("entries are listed by SPIFFE ID, parent, TTLs, number of selectors, and selectors", () => {
  const two = [
    { type: "unix", value: "uid:9" },
    { type: "a", value: "1" },
  ];
  const expected = [
    entry("other-id", { spiffeId: { trustDomain: "example.org", path: "/api" }, x509SvidTtl: 99 }),
    entry("other-parent", { parentId: { trustDomain: "example.org", path: "/aaa" }, x509SvidTtl: 99 }),
    entry("one", {}),
    entry("one-more", { selectors: [{ type: "unix", value: "uid:1" }] }),
    entry("two", { selectors: two }),
    entry("jwt-ttl", { jwtSvidTtl: 1 }),
    entry("ttl-9", { x509SvidTtl: 9 }),
    entry("ttl-10", { x509SvidTtl: 10 }),
  ];
  const listed = inListingOrder([...expected].reverse());
  expect(listed.map(({ id }) => id)).toEqual(expected.map(({ id }) => id));
  expect(listed.find(({ id }) => id === "two")?.selectors).toEqual([...two].reverse());
});
