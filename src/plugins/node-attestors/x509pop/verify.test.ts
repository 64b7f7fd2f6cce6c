import "reflect-metadata";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { attestInMemory, contextWithTokens } from "../../../../test/contract/node-attestor.ts";
import {
  createPemFolder,
  makeNodeCertificate,
  type NodeCertificate,
} from "../../../../test/contract/node-certificates.ts";
import { systemClock } from "../../../core/clock.ts";
import { SpireError } from "../../../core/errors.ts";
import { nullLogger } from "../../../core/log.ts";
import { encode, tags } from "../../../core/x509/der.ts";
import type { NodeIdentity, NodeProver, VerifierContext } from "../index.ts";
import { answerChallenge, decodeChallenge, encodePayload } from "./messages.ts";
import { createX509popProver } from "./prove.ts";
import { openX509popVerifier, type X509popVerifierOptions } from "./verify.ts";

const folder = createPemFolder();
afterAll(() => folder.remove());

let ca: NodeCertificate;
let leaf: NodeCertificate;
beforeAll(async () => {
  ca = await makeNodeCertificate({ ca: true });
  leaf = await makeNodeCertificate({ issuer: ca });
});

const proverOf = (node: NodeCertificate, ...intermediates: readonly NodeCertificate[]): NodeProver =>
  createX509popProver(async () => ({
    chain: [node, ...intermediates].map(({ der }) => der),
    privateKey: node.privateKey,
  }));

type Options = Partial<Omit<X509popVerifierOptions, "trust">>;

let files = 0;
function open(roots: readonly NodeCertificate[], options: Options = {}) {
  files += 1;
  const path = folder.write(`ca-${files}.pem`, ...roots.map(({ pem }) => pem));
  return openX509popVerifier({
    trust: { mode: "external_pki", caBundlePaths: [path] },
    maxIntermediates: 4,
    maxRsaKeySize: 8192,
    verifyClientIp: false,
    clock: systemClock,
    log: nullLogger,
    ...options,
  });
}

interface Case {
  readonly prover?: NodeProver;
  readonly roots?: readonly NodeCertificate[];
  readonly options?: Options;
  readonly context?: Partial<VerifierContext>;
}

const attest = async ({
  prover = proverOf(leaf),
  roots = [ca],
  options,
  context,
}: Case): Promise<NodeIdentity> =>
  attestInMemory(prover, await open(roots, options), { ...contextWithTokens(), ...context });

/** `CODE: message`, or the agent's ID. */
async function outcome(scene: Case): Promise<string> {
  try {
    return (await attest(scene)).agentId;
  } catch (error) {
    if (!(error instanceof SpireError)) throw error;
    return `${error.code}: ${error.message.replace("nodeattestor(x509pop): ", "")}`;
  }
}

/** Yields these payload and answer, whatever is asked. */
const proverSaying = (
  payload: Uint8Array | string,
  answer: (challenge: Uint8Array) => Uint8Array | string,
): NodeProver => ({
  name: "x509pop",
  async *prove() {
    const challenge = yield Buffer.from(payload);
    yield Buffer.from(answer(challenge));
  },
});
const payloadOf = (...chain: readonly NodeCertificate[]) => encodePayload(chain.map(({ der }) => der));
const silent = () => "";

const accepted = /^spiffe:\/\/example\.org\/spire\/agent\/x509pop\/[0-9a-f]{40}$/;

describe("a node is refused", () => {
  test.each(["ec-p256", "ec-p384", "ec-p521", "rsa-2048"] as const)(
    "when it signs with another key: %s",
    async (key) => {
      const owner = await makeNodeCertificate({ issuer: ca, key });
      const thief = await makeNodeCertificate({ key });
      const prover = proverSaying(payloadOf(owner), (challenge) =>
        answerChallenge(thief.privateKey, decodeChallenge(challenge, key === "rsa-2048" ? "rsa" : "ecdsa")),
      );
      const name = key === "rsa-2048" ? "RSA" : "ECDSA";
      expect(await outcome({ prover })).toBe(
        `PERMISSION_DENIED: challenge response verification failed: ${name} signature verify failed`,
      );
    },
  );

  test("when it repeats the answer to an earlier challenge", async () => {
    let kept: Uint8Array | undefined;
    const prover = proverSaying(payloadOf(leaf), (challenge) => {
      kept ??= answerChallenge(leaf.privateKey, decodeChallenge(challenge, "ecdsa"));
      return kept;
    });
    expect(await outcome({ prover })).toMatch(accepted);
    expect(await outcome({ prover })).toBe(
      "PERMISSION_DENIED: challenge response verification failed: ECDSA signature verify failed",
    );
  });

  test("when it answers another kind of challenge", async () => {
    const answers: readonly [string, string][] = [
      ["{}", "PERMISSION_DENIED: challenge response verification failed: expecting ECDSA response"],
      [
        '{"rsa_signature":{"nonce":"","signature":""}}',
        "PERMISSION_DENIED: challenge response verification failed: expecting ECDSA response",
      ],
      [
        '{"ecdsa_signature":{}}',
        "PERMISSION_DENIED: challenge response verification failed: invalid response nonce",
      ],
      [
        `{"ecdsa_signature":{"nonce":"${Buffer.alloc(32).toString("base64")}","r":"","s":""}}`,
        "PERMISSION_DENIED: challenge response verification failed: ECDSA signature verify failed",
      ],
      [
        `{"ecdsa_signature":{"nonce":"${Buffer.alloc(32).toString("base64")}","r":"${Buffer.alloc(99, 1).toString("base64")}","s":"AQ=="}}`,
        "PERMISSION_DENIED: challenge response verification failed: ECDSA signature verify failed",
      ],
    ];
    for (const [answer, expected] of answers) {
      expect(await outcome({ prover: proverSaying(payloadOf(leaf), () => answer) })).toBe(expected);
    }
  });

  test("when its answer is damaged, and its text is not repeated", async () => {
    const answers = [
      "",
      "garbage",
      '{"ecdsa_signature":',
      "[]",
      '{"ecdsa_signature":7}',
      '{"ecdsa_signature":{"nonce":"!!"}}',
      "\xff",
    ];
    for (const answer of answers) {
      const said = await outcome({ prover: proverSaying(payloadOf(leaf), () => answer) });
      expect(said).toStartWith("INVALID_ARGUMENT: unable to unmarshal challenge response: ");
      expect(said).not.toContain("garbage");
    }
  });

  test("when its payload is damaged", async () => {
    const payloads: readonly [string, string][] = [
      ["garbage", "failed to unmarshal data: invalid JSON"],
      ['{"certificates":["MII', "failed to unmarshal data: invalid JSON"],
      ['{"certificates":"x"}', "failed to unmarshal data: certificates is not a list"],
      ['{"certificates":["%%%"]}', "failed to unmarshal data: illegal base64 data"],
      ['{"certificates":[7]}', "failed to unmarshal data: illegal base64 data"],
      ["{}", "no certificate to attest"],
      ['{"certificates":[]}', "no certificate to attest"],
      [
        '{"certificates":["AAAA"]}',
        "unable to parse leaf certificate: malformed DER: tag 0 where 48 belongs",
      ],
    ];
    for (const [payload, reason] of payloads) {
      expect(await outcome({ prover: proverSaying(payload, silent) })).toBe(`INVALID_ARGUMENT: ${reason}`);
    }
    const half = payloadOf(leaf, ca).subarray(0, 400);
    expect(await outcome({ prover: proverSaying(half, silent) })).toBe(
      "INVALID_ARGUMENT: failed to unmarshal data: invalid JSON",
    );
    const broken = encodePayload([leaf.der, ca.der.subarray(0, 40)]);
    expect(await outcome({ prover: proverSaying(broken, silent) })).toStartWith(
      "INVALID_ARGUMENT: unable to parse intermediate certificate 0: ",
    );
  });

  test("when its certificate has expired, or an authority above it has", async () => {
    const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) };
    const old = await makeNodeCertificate({ issuer: ca, ...past });
    expect(await outcome({ prover: proverOf(old) })).toMatch(
      /^PERMISSION_DENIED: certificate verification failed: certificate has expired at /,
    );
    const oldCa = await makeNodeCertificate({ ca: true, subject: "CN=old", ...past });
    const below = await makeNodeCertificate({ issuer: oldCa });
    expect(await outcome({ prover: proverOf(below), roots: [oldCa] })).toMatch(/has expired at /);
    const early = await makeNodeCertificate({ issuer: ca, notBefore: new Date(Date.now() + 3_600_000) });
    expect(await outcome({ prover: proverOf(early) })).toMatch(/is not valid before /);
  });

  test("when a stranger signed its certificate", async () => {
    const stranger = await makeNodeCertificate({ ca: true, subject: "CN=stranger" });
    const node = await makeNodeCertificate({ issuer: stranger });
    expect(await outcome({ prover: proverOf(node) })).toBe(
      "PERMISSION_DENIED: certificate verification failed: certificate is signed by an unknown authority",
    );
    // By an authority's name, but not its key.
    const namesake = await makeNodeCertificate({ ca: true });
    const other = await makeNodeCertificate({ issuer: namesake });
    expect(await outcome({ prover: proverOf(other) })).toMatch(/invalid signature$/);
    // It brings its own root.
    expect(await outcome({ prover: proverOf(node, stranger) })).toMatch(/unknown authority$/);
  });

  test("when its certificate is an authority's, or was signed by one that is none", async () => {
    const { digitalSignature, keyCertSign } = x509.KeyUsageFlags;
    const usage = digitalSignature | keyCertSign;
    const authority = await makeNodeCertificate({ issuer: ca, ca: true, subject: "CN=sub", usage });
    expect(await outcome({ prover: proverOf(authority) })).toBe(
      "PERMISSION_DENIED: certificate verification failed: leaf certificate is a CA's",
    );
    const below = await makeNodeCertificate({ issuer: leaf });
    expect(await outcome({ prover: proverOf(below, leaf) })).toMatch(/signed by one that is no CA$/);
  });

  test("when its chain is too long", async () => {
    const chain = [await makeNodeCertificate({ issuer: ca, ca: true, subject: "CN=1" })];
    for (const number of [2, 3, 4, 5]) {
      const [above] = chain;
      const subject = `CN=${number}`;
      if (above) chain.unshift(await makeNodeCertificate({ issuer: above, ca: true, subject }));
    }
    const [lowest] = chain;
    if (!lowest) throw new Error("no chain was made");
    const node = await makeNodeCertificate({ issuer: lowest });
    const prover = proverOf(node, ...chain);
    expect(await outcome({ prover })).toBe("INVALID_ARGUMENT: too many intermediate certificates");
    expect(await outcome({ prover, options: { maxIntermediates: 5 } })).toMatch(accepted);

    const strict = await makeNodeCertificate({ ca: 0, subject: "CN=strict" });
    const sub = await makeNodeCertificate({ issuer: strict, ca: true, subject: "CN=sub" });
    const deep = await makeNodeCertificate({ issuer: sub });
    expect(await outcome({ prover: proverOf(deep, sub), roots: [strict] })).toMatch(/path length allows$/);
  });

  test("when an RSA key is larger than allowed, before anything is computed with it", async () => {
    const node = await makeNodeCertificate({ issuer: ca, key: "rsa-3072" });
    expect(await outcome({ prover: proverOf(node), options: { maxRsaKeySize: 3071 } })).toBe(
      "INVALID_ARGUMENT: leaf certificate key size too large",
    );
    expect(await outcome({ prover: proverOf(node), options: { maxRsaKeySize: 3072 } })).toMatch(accepted);
    const large = await makeNodeCertificate({ ca: true, key: "rsa-3072", subject: "CN=large" });
    expect(await outcome({ prover: proverOf(leaf, large), options: { maxRsaKeySize: 2048 } })).toBe(
      "INVALID_ARGUMENT: intermediate certificate 0 key size too large",
    );
    // 320,000 bits, which no library would make.
    const modulus = Buffer.alloc(40_000, 0xff);
    const key = encode(
      tags.sequence,
      encode(tags.integer, Buffer.of(0), modulus),
      encode(tags.integer, Buffer.of(3)),
    );
    const huge = Buffer.from(replaceKey(node.der, key));
    expect(await outcome({ prover: proverSaying(encodePayload([huge]), silent) })).toBe(
      "INVALID_ARGUMENT: leaf certificate key size too large",
    );
  });

  test("when its certificate is not for signatures, or its key can't answer", async () => {
    const { keyEncipherment } = x509.KeyUsageFlags;
    const node = await makeNodeCertificate({ issuer: ca, usage: keyEncipherment });
    expect(await outcome({ prover: proverOf(node) })).toBe(
      "INTERNAL: unable to generate challenge: certificate not intended for digital signature use",
    );
    const edwards = await makeNodeCertificate({ issuer: ca, key: "ed25519" });
    expect(await outcome({ prover: proverSaying(payloadOf(edwards), silent) })).toBe(
      "INTERNAL: unable to generate challenge: unsupported public key type ed25519",
    );
  });

  test("when an authority's name constraints forbid its names", async () => {
    const onlyNet10 = new x509.Extension(
      "2.5.29.30",
      true,
      encode(
        tags.sequence,
        encode(0xa0, encode(tags.sequence, encode(0x87, Buffer.from("0a000000ff000000", "hex")))),
      ),
    );
    const limited = await makeNodeCertificate({ ca: true, subject: "CN=limited", extensions: [onlyNet10] });
    const roots = [limited];
    const inside = await makeNodeCertificate({ issuer: limited, ips: ["10.1.2.3"] });
    const outside = await makeNodeCertificate({ issuer: limited, ips: ["10.1.2.3", "11.1.2.3"] });
    const ipv6 = await makeNodeCertificate({ issuer: limited, ips: ["fd00::1"] });
    expect(await outcome({ prover: proverOf(inside), roots })).toMatch(accepted);
    expect(await outcome({ prover: proverOf(outside), roots })).toMatch(
      /name constraints forbid "IP address 0b010203"$/,
    );
    expect(await outcome({ prover: proverOf(ipv6), roots })).toMatch(/name constraints forbid /);
  });

  test("when its path is no agent's", async () => {
    const paths: readonly [string, string][] = [
      ["no-slash", 'agent path "no-slash" has no leading slash'],
      ["/a b", "path segment characters are limited"],
      ["/a/../b", "path cannot contain dot segments"],
      ["/{{ .Subject.CommonName }}/", "path cannot have a trailing slash"],
      ["/{{ .URISanSelectors.rack }}", 'map has no entry for key "rack"'],
      ["/{{ .Subject.Unknown }}", "can't evaluate field Unknown in type pkix.Name"],
      ['/{{ fail "not here" }}', "not here"],
    ];
    for (const [agentPathTemplate, reason] of paths) {
      const said = await outcome({ options: { agentPathTemplate } });
      expect(said).toStartWith("INTERNAL: failed to make spiffe id: ");
      expect(said).toContain(reason);
    }
  });
});

/** The certificate with an RSA public key of one's own making; its signature holds no more. */
function replaceKey(der: Uint8Array, key: Uint8Array): Uint8Array {
  const certificate = new x509.X509Certificate(der);
  const spki = encode(
    tags.sequence,
    encode(tags.sequence, Buffer.from("06092a864886f70d0101010500", "hex")),
    encode(tags.bitString, Buffer.of(0), key),
  );
  const whole = Buffer.from(der);
  const old = Buffer.from(certificate.publicKey.rawData);
  const at = whole.indexOf(old);
  const reader = whole.subarray(4);
  const tbsSize = 4 + reader.readUInt16BE(2);
  const tbs = reader.subarray(0, tbsSize);
  const content = Buffer.concat([tbs.subarray(4, at - 4), spki, tbs.subarray(at - 4 + old.length)]);
  return encode(tags.sequence, encode(tags.sequence, content), reader.subarray(tbsSize));
}

describe("the address of the agent", () => {
  const options = { verifyClientIp: true };
  const mismatch = (ip: string) => `PERMISSION_DENIED: client IP ${ip} does not match any certificate IP SAN`;

  test("must be one of the certificate's when that is asked for", async () => {
    const node = await makeNodeCertificate({ issuer: ca, ips: ["192.0.2.7", "2001:db8::7"] });
    const from = (peerAddress: string) =>
      outcome({ prover: proverOf(node), options, context: { peerAddress } });
    expect(await from("192.0.2.7:4000")).toMatch(accepted);
    expect(await from("[2001:DB8:0::7]:4000")).toMatch(accepted);
    expect(await from("[::ffff:192.0.2.7]:4000")).toMatch(accepted);
    expect(await from("192.0.2.8:4000")).toBe(mismatch("192.0.2.8"));
    expect(await from("[2001:db8::8]:4000")).toBe(mismatch("2001:db8::8"));
    expect(await from("/run/spire.sock")).toBe("INTERNAL: client IP not available for verification");
    expect(await from("nonsense:1")).toBe('INTERNAL: invalid client IP "nonsense"');
  });

  test("is no matter else, and a certificate without addresses fits none", async () => {
    expect(await outcome({ context: { peerAddress: "/run/spire.sock" } })).toMatch(accepted);
    expect(await outcome({ options, context: { peerAddress: "192.0.2.7:1" } })).toBe(mismatch("192.0.2.7"));
  });
});

describe("a proven node", () => {
  test("has SPIRE's selectors, one for each authority of each chain", async () => {
    const cross = await makeNodeCertificate({ ca: true, keyPem: ca.keyPem, serialNumber: "77" });
    const middle = await makeNodeCertificate({ issuer: ca, ca: true, subject: "CN=middle" });
    const node = await makeNodeCertificate({
      issuer: middle,
      subject: "CN=node7,O=Acme",
      serialNumber: "0123",
      uris: [
        "x509pop://example.org/datacenter/eu/1",
        "x509pop://example.org/rack",
        "x509pop://other.test/datacenter/x",
        "https://example.org/a/b",
      ],
    });
    const { selectors, canReattest } = await attest({ prover: proverOf(node, middle), roots: [ca, cross] });
    const fingerprint = ({ der }: NodeCertificate) => new Bun.CryptoHasher("sha1").update(der).digest("hex");
    expect(canReattest).toBe(true);
    expect(selectors).toEqual(
      [
        "subject:cn:node7",
        `ca:fingerprint:${fingerprint(middle)}`,
        `ca:fingerprint:${fingerprint(ca)}`,
        `ca:fingerprint:${fingerprint(cross)}`,
        "serialnumber:0123",
        "san:datacenter:eu/1",
      ].map((value) => ({ type: "x509pop", value })),
    );
  });

  test("may be in the bundle itself, as its own authority", async () => {
    const { digitalSignature, keyCertSign } = x509.KeyUsageFlags;
    const own = await makeNodeCertificate({
      ca: true,
      subject: "CN=own",
      usage: digitalSignature | keyCertSign,
    });
    const { selectors } = await attest({ prover: proverOf(own), roots: [ca, own] });
    expect(selectors.map(({ value }) => value)).toEqual(["subject:cn:own", "serialnumber:0a0b0c"]);
  });

  test("is named by the template", async () => {
    const node = await makeNodeCertificate({ issuer: ca, uris: ["x509pop://example.org/datacenter/eu1"] });
    const agentPathTemplate =
      '/x509pop/{{ .URISanSelectors.datacenter }}/{{ .Subject.CommonName | upper }}/{{ regexReplaceAll "[^0-9]" .SerialNumberHex "" }}';
    expect(await outcome({ prover: proverOf(node), options: { agentPathTemplate } })).toBe(
      "spiffe://example.org/spire/agent/x509pop/eu1/NODE1/000",
    );
  });
});

describe("mode spiffe", () => {
  const start = async (
    uris: readonly string[],
    options: { prefix?: string; roots?: readonly NodeCertificate[] } = {},
  ) => {
    const node = await makeNodeCertificate({ issuer: ca, uris });
    const verifier = await openX509popVerifier({
      trust: { mode: "spiffe", prefix: options.prefix ?? "/spire-exchange/" },
      maxIntermediates: 4,
      maxRsaKeySize: 8192,
      verifyClientIp: false,
      clock: systemClock,
      log: nullLogger,
    });
    const x509Authorities = (options.roots ?? [ca]).map(({ der }) => ({ der, tainted: false }));
    const context = { ...contextWithTokens(), ownBundle: () => ({ x509Authorities }) };
    try {
      return (await attestInMemory(proverOf(node), verifier, context)).agentId;
    } catch (error) {
      return SpireError.from(error).message.replace("nodeattestor(x509pop): ", "");
    }
  };

  test("names an agent by its SVID's path without the prefix", async () => {
    expect(await start(["spiffe://example.org/spire-exchange/rack/7"])).toBe(
      "spiffe://example.org/spire/agent/x509pop/rack/7",
    );
    expect(await start(["spiffe://example.org/a"], { prefix: "/" })).toBe(
      "spiffe://example.org/spire/agent/x509pop/a",
    );
  });

  test("takes SVIDs of the own trust domain below the prefix, and nothing else", async () => {
    expect(await start(["spiffe://example.org/web"])).toBe("x509 cert doesnt match SVID prefix");
    expect(await start(["spiffe://example.org/spire-exchange"])).toBe("x509 cert doesnt match SVID prefix");
    expect(await start(["spiffe://other.test/spire-exchange/a"])).toBe(
      "x509 cert is of another trust domain",
    );
    expect(await start(["spiffe://example.org/spire-exchange//a"])).toBe("valid SVID x509 cert not found");
    expect(await start(["https://example.org/spire-exchange/a"])).toBe("valid SVID x509 cert not found");
    expect(await start([])).toBe("valid SVID x509 cert not found");
  });

  test("trusts nobody while the bundle is empty", async () => {
    expect(await start(["spiffe://example.org/spire-exchange/a"], { roots: [] })).toBe(
      "certificate verification failed: certificate is signed by an unknown authority",
    );
  });
});

test("files with authorities that can't be read are named", async () => {
  const openAt = async (path: string) => {
    try {
      await openX509popVerifier({
        trust: { mode: "external_pki", caBundlePaths: [path] },
        maxIntermediates: 4,
        maxRsaKeySize: 8192,
        verifyClientIp: false,
        clock: systemClock,
        log: nullLogger,
      });
      return "opened";
    } catch (error) {
      return SpireError.from(error).message;
    }
  };
  expect(await openAt("/nowhere/ca.pem")).toStartWith(
    'x509pop: unable to load trust bundle "/nowhere/ca.pem": ',
  );
  expect(await openAt(folder.write("empty.pem", ""))).toEndWith("no certificates found in file");
  expect(await openAt(folder.write("key.pem", ca.keyPem))).toEndWith("no certificates found in file");
  expect(await openAt(folder.write("cut.pem", ca.pem.slice(0, -40)))).toEndWith("malformed PEM block");
  expect(await openAt(folder.write("both.pem", ca.keyPem, ca.pem))).toBe("opened");
});

test("a template that names what no certificate has is refused before any node comes", async () => {
  const openWith = async (agentPathTemplate: string) => {
    try {
      await open([ca], { agentPathTemplate });
      return "opened";
    } catch (error) {
      return SpireError.from(error).message;
    }
  };
  const unknown = (name: string) => `agent_path_template names ".${name}", which isn't there; `;
  expect(await openWith("/{{ .SubjectCN }}")).toStartWith(unknown("SubjectCN"));
  expect(await openWith("/{{ .Subjekt.CommonName }}")).toBe(`${unknown("Subjekt")}did you mean ".Subject"?`);
  expect(await openWith("/{{ with 1 }}{{ $.NotAfter.Year }}{{ end }}")).toStartWith(unknown("NotAfter"));
  expect(await openWith("/{{ range .DNSNames }}{{ .Any }}{{ end }}")).toBe("opened");
  expect(await openWith('/{{ define "a" }}{{ $.Any }}{{ .Any }}{{ end }}')).toBe("opened");
});
