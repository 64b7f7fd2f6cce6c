import { expect, test } from "bun:test";
import { makeSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import { encodeName, formatSubject, type Name } from "../../core/x509/name.ts";
import { uniqueId } from "./uniqueid.ts";

const web = makeSpiffeId(parseTrustDomain("example.org"), "/web");
const compose = async (subject: Name) =>
  (await uniqueId.composeWorkloadX509Svid?.(web, { subject, dnsNames: ["web.test"] })) ?? {
    subject: {},
    dnsNames: [],
  };

/** printf %s spiffe://example.org/web | sha256sum */
const expected = "5435ad736577b1c6010684ba059e1171";

test("adds the first half of the SPIFFE ID's SHA-256, after everything else", async () => {
  const { subject, dnsNames } = await compose({ country: ["US"], commonName: ["web.test"] });
  // As openssl would write it; 13 20: PrintableString of 32 characters.
  const der = Buffer.from(`1320${Buffer.from(expected).toString("hex")}`, "hex");
  expect(formatSubject(encodeName(subject))).toBe(`CN=web.test,C=US,2.5.4.45=#${der.toString("hex")}`);
  expect(dnsNames).toEqual(["web.test"]);
});

test("replaces one that is there, and leaves other attributes alone", async () => {
  const extra = [
    { oid: "2.5.4.45", value: "old" },
    { oid: "2.5.4.12", value: "title" },
  ];
  const { subject } = await compose({ extra });
  expect(subject.extra).toEqual([
    { oid: "2.5.4.12", value: "title" },
    { oid: "2.5.4.45", value: expected },
  ]);
});
