import { describe, expect, test } from "bun:test";
import { BlockList, isIP } from "node:net";
import fc from "fast-check";
import { canonicalIp, ipFamily, networkOf, parseIpRanges } from "./ip-address.ts";

describe("an address has one spelling", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["0:0:0:0:0:FFFF:c000:0201", "192.0.2.1"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["::", "::"],
    ["0:0::0:0:0.0.0.0", "::"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
    ["1:0:0:2:3:0:0:4", "1::2:3:0:0:4"],
    ["1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["fe80::1%eth0", undefined],
    ["010.0.0.1", undefined],
    ["192.0.2", undefined],
    ["", undefined],
  ])("%s", (text, expected) => {
    expect(canonicalIp(text)).toBe(expected);
  });
});

test("an address that the URL standard can read has its spelling there", () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const canonical = canonicalIp(text) ?? "";
      expect(canonicalIp(canonical)).toBe(canonical);
      const short = URL.parse(`http://[${text}]`)?.hostname;
      if (short === undefined || !canonical.includes(":")) return;
      expect(`[${canonical}]`).toBe(short);
    }),
  );
});

test("the runtime takes the same texts for addresses, and the same addresses for part of a range", () => {
  const almost = fc
    .tuple(
      fc.oneof(
        fc.ipV4(),
        fc.ipV6(),
        fc.ipV4().map((four) => `::ffff:${four}`),
      ),
      fc.nat(),
      fc.constantFrom("", ":", ".", "0", "g", "::"),
    )
    .map(
      ([text, at, extra]) =>
        text.slice(0, at % (text.length + 1)) + extra + text.slice(at % (text.length + 1)),
    );
  fc.assert(
    fc.property(fc.oneof(almost, fc.ipV4(), fc.ipV6()), (text) => {
      expect(ipFamily(text) ?? 0).toBe(isIP(text));
    }),
    { numRuns: 2_000 },
  );
  const family = (text: string) => (isIP(text) === 4 ? "ipv4" : "ipv6");
  const some = fc.oneof(
    fc.tuple(fc.ipV4(), fc.ipV4(), fc.nat(32)),
    fc.tuple(fc.ipV6(), fc.ipV6(), fc.nat(128)),
  );
  fc.assert(
    fc.property(some, ([start, address, bits]) => {
      const list = new BlockList();
      list.addSubnet(start, bits, family(start));
      const isIn = parseIpRanges([`${start}/${bits}`]);
      for (const one of [start, address]) {
        if (family(canonicalIp(one) ?? "") === family(start))
          expect(isIn(one)).toBe(list.check(one, family(one)));
      }
    }),
  );
});

describe("ranges", () => {
  const isIn = parseIpRanges(["10.0.0.0/8", "192.0.2.7/32", "fd00::/8", "::ffff:198.51.100.0/120"]);
  test.each(["10.255.0.1", "::ffff:10.1.2.3", "192.0.2.7", "fd12:3456::1", "198.51.100.9"])(
    "hold %s",
    (address) => {
      expect(isIn(address)).toBe(true);
    },
  );
  test.each(["11.0.0.1", "192.0.2.8", "fe80::1", "nobody", "::10.1.2.3"])("don't hold %s", (address) => {
    expect(isIn(address)).toBe(false);
  });
  test("of none hold nothing", () => {
    expect(parseIpRanges([])("127.0.0.1")).toBe(false);
  });
  test.each(["10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/-1", "x/8", "/8", "10.0.0.0/"])(
    "%s is none",
    (text) => {
      expect(() => parseIpRanges([text])).toThrow(`invalid CIDR address: ${text}`);
    },
  );
});

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
  ["fe80::1%eth0", "fe80::/64"],
  ["somebody", "somebody"],
])("%s counts as %s where callers are told apart", (address, network) => {
  expect(networkOf(address)).toBe(network);
});
