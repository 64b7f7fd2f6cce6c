import "reflect-metadata";
import { describe, expect, test } from "bun:test";
import { createHash, createPrivateKey, X509Certificate as NodeCertificate } from "node:crypto";
import { createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { X509Certificate } from "@peculiar/x509";
import fc from "fast-check";
import { acmeProtocol, asksForValidation, createChallengeCertificate } from "./challenge.ts";

/** What a TLS client with these protocols sends first. */
function clientHello(protocols: readonly string[]): Promise<Buffer> {
  return new Promise((resolve) => {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (bytes: Buffer) => {
        socket.destroy();
        server.close();
        resolve(bytes);
      });
    });
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      const alpn = protocols.length > 0 ? { ALPNProtocols: [...protocols] } : {};
      connectTls({ host: "127.0.0.1", port, servername: "a.test", ...alpn }).on("error", () => {});
    });
  });
}

describe("a connection is a validation", () => {
  test.each([
    [[acmeProtocol], true],
    [["http/1.1"], false],
    [["http/1.1", acmeProtocol], false],
    [[], false],
  ] as const)("of a client that offers %p: %p", async (protocols, expected) => {
    const hello = await clientHello(protocols);
    expect(asksForValidation(hello)).toBe(expected);
    for (let end = 1; end < hello.length; end += 1) {
      expect(asksForValidation(hello.subarray(0, end))).toBe("incomplete");
    }
  });

  test("for nothing that is no TLS", () => {
    expect(asksForValidation(Buffer.from("GET / HTTP/1.1\r\n\r\n"))).toBe(false);
    expect(asksForValidation(Buffer.from([22, 3, 1, 0xff, 0xff]))).toBe(false);
    expect(asksForValidation(Buffer.from([22, 3, 1, 0, 1, 2]))).toBe(false);
  });

  test("or is refused, whatever comes", async () => {
    const hello = await clientHello([acmeProtocol]);
    fc.assert(
      fc.property(fc.nat(hello.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
        const damaged = Buffer.from(hello);
        damaged[at] = byte;
        expect([true, false, "incomplete"]).toContain(asksForValidation(damaged));
      }),
    );
  });
});

test("the certificate that answers a validation carries the digest, critically", async () => {
  const { cert, key } = await createChallengeCertificate("b.example.org", "token.thumbprint", 1_800_000_000);
  const certificate = new X509Certificate(String(cert));
  const extension = certificate.extensions.find(({ type }) => type === "1.3.6.1.5.5.7.1.31");
  const digest = createHash("sha256").update("token.thumbprint").digest();
  expect(extension?.critical).toBe(true);
  expect(Buffer.from(extension?.value ?? new ArrayBuffer()).toString("hex")).toBe(
    `0420${digest.toString("hex")}`,
  );
  const read = new NodeCertificate(String(cert));
  expect(read.subjectAltName).toBe("DNS:b.example.org");
  expect(read.verify(read.publicKey)).toBe(true);
  expect(read.checkPrivateKey(createPrivateKey(String(key)))).toBe(true);
});
