import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalIp } from "../core/ip-address.ts";
import { type ProxyHeader, readProxyHeader } from "./proxy-protocol.ts";

const signature = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");

function v2(command: number, family: number, body: Buffer, version = 2): Buffer {
  const head = Buffer.alloc(4);
  head.writeUInt8((version << 4) | command, 0);
  head.writeUInt8(family, 1);
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([signature, head, body]);
}

const ports = (source: number, destination: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(source, 0);
  bytes.writeUInt16BE(destination, 2);
  return bytes;
};

const ipv4Body = Buffer.concat([Buffer.from([192, 0, 2, 1, 198, 51, 100, 1]), ports(4_711, 8_081)]);
const ipv6Body = Buffer.concat([
  Buffer.from(`20010db8${"0".repeat(23)}1`, "hex"),
  Buffer.from(`20010db8${"0".repeat(23)}2`, "hex"),
  ports(65_535, 443),
]);
/** PP2_TYPE_AUTHORITY and an unknown one. */
const extras = Buffer.from("0200056c2e6e6574ee0000", "hex");

const v1 = (line: string) => Buffer.from(`${line}\r\n`, "latin1");
const client = { host: "192.0.2.1", port: 4_711 };

const good: readonly (readonly [string, Buffer, ProxyHeader["source"]])[] = [
  ["TCP4", v1("PROXY TCP4 192.0.2.1 198.51.100.1 4711 8081"), client],
  ["TCP6", v1("PROXY TCP6 2001:DB8:0::1 ::1 0 65535"), { host: "2001:db8::1", port: 0 }],
  ["an IPv4 address in IPv6", v1("PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 1"), client],
  ["UNKNOWN", v1("PROXY UNKNOWN"), undefined],
  ["UNKNOWN with more", v1(`PROXY UNKNOWN ${"f".repeat(90)}`), undefined],
  ["version 2, IPv4", v2(1, 0x11, ipv4Body), client],
  ["version 2, datagrams", v2(1, 0x12, ipv4Body), client],
  ["version 2, IPv4 and TLVs", v2(1, 0x11, Buffer.concat([ipv4Body, extras])), client],
  ["version 2, IPv6", v2(1, 0x21, ipv6Body), { host: "2001:db8::1", port: 65_535 }],
  [
    "version 2, IPv6 and TLVs",
    v2(1, 0x21, Buffer.concat([ipv6Body, extras])),
    { host: "2001:db8::1", port: 65_535 },
  ],
  ["version 2, a Unix client", v2(1, 0x31, Buffer.alloc(216, 0x61)), undefined],
  ["version 2, unspecified", v2(1, 0x00, Buffer.alloc(0)), undefined],
  ["version 2, LOCAL", v2(0, 0x00, Buffer.alloc(0)), undefined],
  ["version 2, LOCAL with an address", v2(0, 0x11, ipv4Body), undefined],
];

describe.each(good)("%s", (_what, header, source) => {
  const expected = { length: header.length, ...(source && { source }) };

  test("is read, whatever follows", () => {
    expect(readProxyHeader(header)).toEqual(expected);
    expect(readProxyHeader(Buffer.concat([header, Buffer.from([0x16, 3, 1])]))).toEqual(expected);
  });

  test("is waited for when it was cut anywhere", () => {
    for (let cut = 0; cut < header.length; cut++) {
      expect(readProxyHeader(header.subarray(0, cut))).toBe("incomplete");
    }
  });
});

describe("what is no header", () => {
  test.each([
    ["a TLS ClientHello", Buffer.from([0x16, 3, 1, 2, 0])],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n")],
    ["another word", Buffer.from("PROXI TCP4")],
    ["lower case", Buffer.from("proxy TCP4")],
    ["half a signature", Buffer.concat([signature.subarray(0, 11), Buffer.from("X")])],
  ])("%s", (_what, bytes) => {
    expect(readProxyHeader(bytes)).toBe("absent");
  });
});

describe("what begins as a header and is none is refused", () => {
  test.each([
    ["a line too long", Buffer.from(`PROXY UNKNOWN ${"f".repeat(200)}`)],
    ["a line too long with an end", v1(`PROXY UNKNOWN ${"f".repeat(93)}`)],
    ["another protocol", v1("PROXY UDP4 192.0.2.1 192.0.2.2 1 2")],
    ["nothing", v1("PROXY ")],
    ["IPv6 as IPv4", v1("PROXY TCP4 ::1 ::1 1 2")],
    ["IPv4 as IPv6", v1("PROXY TCP6 192.0.2.1 192.0.2.2 1 2")],
    ["a field too few", v1("PROXY TCP4 192.0.2.1 192.0.2.2 1")],
    ["a field too many", v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3")],
    ["two spaces", v1("PROXY TCP4  192.0.2.1 192.0.2.2 1 2")],
    ["a port too high", v1("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2")],
    ["a port with a zero before it", v1("PROXY TCP4 192.0.2.1 192.0.2.2 01 2")],
    ["a port below zero", v1("PROXY TCP4 192.0.2.1 192.0.2.2 1 -2")],
    ["a zone", v1("PROXY TCP6 fe80::1%eth0 ::1 1 2")],
    ["version 2, another version", v2(1, 0x11, ipv4Body, 3)],
    ["version 2, an unknown command", v2(2, 0x11, ipv4Body)],
    ["version 2, an unknown family", v2(1, 0x41, ipv4Body)],
    ["version 2, an unknown transport", v2(1, 0x13, ipv4Body)],
    ["version 2, addresses cut off", v2(1, 0x11, ipv4Body.subarray(1))],
    ["version 2, IPv6 of the length of IPv4", v2(1, 0x21, ipv4Body)],
    ["version 2, too long", v2(1, 0x11, Buffer.alloc(4_096)).subarray(0, 16)],
  ])("%s", (_what, bytes) => {
    expect(() => readProxyHeader(bytes)).toThrow("malformed PROXY header: ");
  });
});

test("any client is read from either version", () => {
  const port = fc.nat(65_535);
  fc.assert(
    fc.property(
      fc.ipV4(),
      fc.ipV6(),
      port,
      port,
      fc.uint8Array({ maxLength: 300 }),
      (four, six, from, to, more) => {
        const rest = Buffer.from(more);
        for (const [family, address] of [
          ["TCP4", four],
          ["TCP6", six],
        ] as const) {
          const line = v1(`PROXY ${family} ${address} ${address} ${from} ${to}`);
          const host = canonicalIp(address);
          expect(readProxyHeader(Buffer.concat([line, rest]))).toEqual({
            length: line.length,
            source: { host: host ?? "", port: from },
          });
        }
        const octets = Buffer.from(four.split(".").map(Number));
        const header = v2(1, 0x11, Buffer.concat([octets, octets, ports(from, to), rest]));
        expect(readProxyHeader(header)).toEqual({
          length: header.length,
          source: { host: four, port: from },
        });
      },
    ),
  );
});

test("damaged headers and garbage are refused, waited for or no header, and never anything else", () => {
  const damaged = fc
    .tuple(fc.constantFrom(...good.map(([, header]) => header)), fc.nat(255), fc.nat(), fc.nat())
    .map(([header, byte, at, cut]) => {
      const copy = Buffer.from(header);
      copy.writeUInt8(byte, at % copy.length);
      return copy.subarray(0, cut % (copy.length + 1));
    });
  const started = fc
    .tuple(fc.constantFrom(signature, Buffer.from("PROXY ")), fc.uint8Array({ maxLength: 200 }))
    .map(([start, rest]) => Buffer.concat([start, rest]));
  const anything = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(fc.oneof(damaged, started, anything), (bytes) => {
      let state: ReturnType<typeof readProxyHeader>;
      try {
        state = readProxyHeader(bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
        return;
      }
      if (typeof state !== "object") return;
      expect(state.length).toBeLessThanOrEqual(bytes.length);
      // What was read doesn't depend on what came later.
      expect(readProxyHeader(bytes.subarray(0, state.length))).toEqual(state);
      if (state.source) expect(canonicalIp(state.source.host)).toBe(state.source.host);
    }),
    { numRuns: 2_000 },
  );
});
