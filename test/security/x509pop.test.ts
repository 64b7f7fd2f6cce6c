/** Strangers' certificates that cost more than they should, or would make their owner somebody else. */
import "reflect-metadata";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { parseAgentPathTemplate, type TemplateData } from "../../src/core/agent-path-template.ts";
import { systemClock, unixSeconds } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { generateKey } from "../../src/core/keys.ts";
import { nullLogger } from "../../src/core/log.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { parseCertificate } from "../../src/core/x509/certificate.ts";
import { encode, tags } from "../../src/core/x509/der.ts";
import { generalNameTags } from "../../src/core/x509/extensions.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import { sanSelectorsOf } from "../../src/plugins/node-attestors/x509pop/certificate-data.ts";
import {
  answerChallenge,
  decodeChallenge,
  encodePayload,
} from "../../src/plugins/node-attestors/x509pop/messages.ts";
import { openX509popVerifier } from "../../src/plugins/node-attestors/x509pop/verify.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { contextWithTokens } from "../contract/node-attestor.ts";
import { createPemFolder, makeNodeCertificate, type NodeCertificate } from "../contract/node-certificates.ts";
import { csrOf, startTestServer, type TestServer } from "../server/running.ts";

const trustDomain = parseTrustDomain("example.org");
const folder = createPemFolder();
let ca: NodeCertificate;
beforeAll(async () => {
  ca = await makeNodeCertificate({ ca: true });
});
afterAll(() => folder.remove());

const names = (count: number) => Array.from({ length: count }, (_, at) => `n${at}.test`);

/** Name constraints that exclude so many DNS names, none of which is any of `names`. */
function excluding(count: number): x509.Extension {
  const subtrees = Array.from({ length: count }, (_, at) =>
    encode(tags.sequence, encode(generalNameTags.dns, Buffer.from(`x${at}.other`))),
  );
  return new x509.Extension("2.5.29.30", true, encode(tags.sequence, encode(0xa1, ...subtrees)));
}

const messageOf = async (work: () => unknown): Promise<string> => {
  try {
    await work();
    return "accepted";
  } catch (error) {
    if (!(error instanceof SpireError)) throw error;
    return error.message;
  }
};

async function openVerifier() {
  return openX509popVerifier({
    trust: { mode: "external_pki", caBundlePaths: [folder.write("ca.pem", ca.pem)] },
    maxIntermediates: 4,
    maxRsaKeySize: 8192,
    verifyClientIp: false,
    clock: systemClock,
    log: nullLogger,
  });
}

const refuseToAnswer = () => Promise.reject(new Error("a stranger was asked for a proof"));

describe("names and name constraints of a stranger's choice", () => {
  // Neither is signed by anybody who is trusted: this is what anybody can send.
  async function chainOf(namesCount: number, constraintsCount: number) {
    const fake = await makeNodeCertificate({
      issuer: await makeNodeCertificate({ ca: true, subject: ca.subject }),
      ca: true,
      subject: "CN=fake",
      extensions: [excluding(constraintsCount)],
    });
    const leaf = await makeNodeCertificate({
      issuer: fake,
      uris: ["spiffe://example.org/web"],
      dnsNames: names(namesCount),
    });
    return { leaf, fake };
  }

  test("are not compared without end at a TLS handshake", async () => {
    const { leaf, fake } = await chainOf(600, 600);
    const bundle = { trustDomain, x509Authorities: [{ der: ca.der, tainted: false }] };
    const verify = () => verifySvidChain([leaf.der, fake.der], bundle, unixSeconds(systemClock));
    expect(await messageOf(verify)).toBe("certificate chain needs too many checks");
  });

  test("nor for x509pop", async () => {
    const { leaf, fake } = await chainOf(600, 600);
    const verifier = await openVerifier();
    const attest = () =>
      verifier.verify(encodePayload([leaf.der, fake.der]), refuseToAnswer, contextWithTokens());
    expect(await messageOf(attest)).toBe(
      "nodeattestor(x509pop): certificate verification failed: certificate chain needs too many checks",
    );
  });

  test("hold up no chain of an ordinary size", async () => {
    const middle = await makeNodeCertificate({
      issuer: ca,
      ca: true,
      subject: "CN=middle",
      extensions: [excluding(100)],
    });
    const leaf = await makeNodeCertificate({
      issuer: middle,
      uris: ["spiffe://example.org/web"],
      dnsNames: names(100),
    });
    const bundle = { trustDomain, x509Authorities: [{ der: ca.der, tainted: false }] };
    const { id } = verifySvidChain([leaf.der, middle.der], bundle, unixSeconds(systemClock));
    expect(String(id)).toBe("spiffe://example.org/web");
  });
});

describe("a payload is refused", () => {
  test.each([
    ["of more than 128 KiB", `{"certificates":["${"A".repeat(128 * 1024)}"]}`, "more than 131072"],
    ["of lists without end", "[".repeat(100_000), "invalid JSON"],
    ["of objects without end", '{"certificates":'.repeat(8_000), "invalid JSON"],
    ["that closes them", `${"[".repeat(60_000)}${"]".repeat(60_000)}`, "not a JSON object"],
  ])("%s", async (_, payload, reason) => {
    const verifier = await openVerifier();
    const message = await messageOf(() =>
      verifier.verify(Buffer.from(payload), refuseToAnswer, contextWithTokens()),
    );
    expect(message).toStartWith("nodeattestor(x509pop): failed to unmarshal data: ");
    expect(message).toEndWith(reason);
  });

  test("and so is an answer", async () => {
    const leaf = await makeNodeCertificate({ issuer: ca });
    const verifier = await openVerifier();
    const long = async () => Buffer.from(`{"ecdsa_signature":"${"A".repeat(128 * 1024)}"}`);
    expect(
      await messageOf(() => verifier.verify(encodePayload([leaf.der]), long, contextWithTokens())),
    ).toEndWith("more than 131072");
  });
});

/** Where the time grows with the square of the length, these take minutes. */
describe("a template ends soon, whatever a node calls itself:", () => {
  const length = 1_000_000;
  const lists = { L: Array.from({ length: 200_000 }, (_, at) => `n${at}`) };
  const cases: readonly (readonly [string, TemplateData])[] = [
    ["trim .X", { X: `a${" ".repeat(length)}b` }],
    ["base .X", { X: `/a${"/".repeat(length)}b` }],
    ["ext .X", { X: `a${".".repeat(length)}b` }],
    ["clean .X", { X: "/..".repeat(length / 4) }],
    ["uniq .L | len", lists],
    ["regexMatch `(a|aa)*b` .X", { X: "a".repeat(length / 4) }],
    ["regexFind `(x+x+)+y` .X", { X: "x".repeat(length / 4) }],
  ];
  test.each(cases)("%s", async (action, data) => {
    await parseAgentPathTemplate(`/{{ ${action} }}`)
      .fill(data)
      .catch(() => {});
  });

  const refusals: readonly (readonly [string, TemplateData, string])[] = [
    ["b32dec .X", { X: `A${"=".repeat(length)}B` }, "illegal base32 data"],
    ["join .X .L", { ...lists, X: "x".repeat(10_000) }, "the joined text is too long"],
    ["replace `a` .X .X", { X: "a".repeat(10_000) }, "the joined text is too long"],
    ["regexReplaceAll `a` .X .X", { X: "a".repeat(10_000) }, "the replaced text is too long"],
    ["regexFind .X .X", { X: "/..".repeat(10_000) }, "the regular expression is too long"],
  ];
  test.each(refusals)("%s is refused", async (action, data, reason) => {
    expect(await messageOf(() => parseAgentPathTemplate(`/{{ ${action} }}`).fill(data))).toBe(reason);
  });

  test("what doubles itself in a loop is refused", async () => {
    const template = parseAgentPathTemplate(
      "{{ $t := `ab` }}{{ range .L }}{{ $t = printf `%s%s` $t $t }}{{ end }}/{{ $t }}",
    );
    expect(await messageOf(() => template.fill(lists))).toBe("the result of printf is too long");
  });

  test("selectors are read from a URI of slashes", async () => {
    const uri = `x509pop://example.org/a${"/".repeat(length)}b`;
    const leaf = await makeNodeCertificate({ issuer: ca });
    const certificate = { ...parseCertificate(leaf.der), uris: [uri] };
    const selectors = sanSelectorsOf(certificate, "example.org", () => {});
    expect(selectors.get("a")).toHaveLength(length);
  });
});

describe("whoever chooses a name in a certificate", () => {
  let running: TestServer;
  beforeAll(async () => {
    running = await startTestServer({
      nodeAttestors: [
        { type: "join_token" },
        {
          type: "x509pop",
          trust: { mode: "external_pki", caBundlePaths: [folder.write("roots.pem", ca.pem)] },
          agentPathTemplate: "/{{ .Subject.CommonName }}",
          maxIntermediates: 4,
          maxRsaKeySize: 8192,
          verifyClientIp: false,
        },
      ],
    });
  });
  afterAll(() => running.close());

  /** The agent's path, or why there is none. */
  async function attestAs(commonName: string): Promise<string> {
    const node = await makeNodeCertificate({ issuer: ca, subject: `CN=${commonName}` });
    const conversation = running.anonymous.client(AgentService).attestAgent();
    const payload = Buffer.from(encodePayload([node.der]));
    const csr = await csrOf(await generateKey("ec-p256"));
    try {
      await conversation.send({
        step: { $case: "params", value: { data: { type: "x509pop", payload }, params: { csr } } },
      });
      const asked = await conversation.receive();
      if (asked?.step?.$case !== "challenge") throw new Error("no challenge");
      const challenge = decodeChallenge(asked.step.value, "ecdsa");
      const value = Buffer.from(answerChallenge(node.privateKey, challenge));
      await conversation.send({ step: { $case: "challengeResponse", value } });
      const answer = await conversation.receive();
      return answer?.step?.$case === "result" ? (answer.step.value.svid?.id?.path ?? "") : "";
    } catch (error) {
      return SpireError.from(error).message;
    }
  }

  test("is named by it", async () => {
    expect(await attestAs("x509pop/rack-7")).toBe("/spire/agent/x509pop/rack-7");
    expect(await attestAs("rack-7")).toBe("/spire/agent/rack-7");
  });

  test("does not become an agent of another attestor", async () => {
    const victim = await running.attest();
    const path = victim.id.slice("spiffe://example.org/spire/agent/".length);
    expect(path).toStartWith("join_token/");
    expect(await attestAs(path)).toBe(
      `failed to attest: "${victim.id}" is an agent ID of the node attestor "join_token", not of "x509pop"`,
    );
    expect(running.server.registry.index.node(victim.id)?.attestationType).toBe("join_token");
  });

  test.each([
    ["dots", "../server"],
    ["dots alone", ".."],
    ["dots behind the namespace", "x509pop/../../server"],
    ["a space", "a b"],
    ["a slash at the end", "a/"],
    ["two slashes", "a//b"],
    ["dots in percents", "%2e%2e/server"],
    ["more than an ID may have", "x".repeat(2_048)],
  ])("gets no path that is none: %s", async (_, commonName) => {
    expect(await attestAs(commonName)).toContain("failed to make spiffe id");
  });
});
