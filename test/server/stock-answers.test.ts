/** Answers of a stock server that no recorded call shows; see stock-answers.ts for those that need no agent. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKey } from "../../src/core/keys.ts";
import { makeSpiffeId } from "../../src/core/spiffe-id.ts";
import { parseCertificate } from "../../src/core/x509/certificate.ts";
import { createCertificateRequest } from "../../src/core/x509/csr.ts";
import { encodeName, formatSubject, type Name } from "../../src/core/x509/name.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import { failureOf } from "./failure.ts";
import { type CallReplayer, createCallReplayer } from "./golden-calls.ts";
import { createGoldenNode } from "./golden-x509pop.ts";
import { csrOf, entryMessage, startTestServer, type TestServer, trustDomain } from "./running.ts";
import { type Step, stockAnswers } from "./stock-answers.ts";

let replayer: CallReplayer;
beforeAll(async () => {
  replayer = await createCallReplayer();
});

/** Runs `work` against a server of its own. */
async function onServer(
  work: (running: TestServer) => Promise<void>,
  settings?: Parameters<typeof startTestServer>[0],
): Promise<void> {
  const running = await startTestServer(settings);
  try {
    await work(running);
  } finally {
    await running.close();
  }
}

async function take(step: Step, { local }: TestServer): Promise<void> {
  const [service = "", method = ""] = step.method.split("/");
  const answer = await replayer.replay({ service, method, request: step.request }, local);
  expect(answer).toMatchObject({ code: step.code ?? "OK", ...(step.message && { message: step.message }) });
  if (step.statuses) {
    expect(answer.statuses.map(({ code }) => code)).toEqual(step.statuses.map(([code]) => code));
    for (const [index, [, message]] of step.statuses.entries()) {
      if (message !== undefined) expect(answer.statuses[index]).toHaveProperty("message", message);
    }
  }
  if (step.answer !== undefined) expect(answer.response).toMatchObject(Object(step.answer));
  if (step.whole !== undefined) expect(answer.response).toEqual(step.whole);
}

describe("as in stock SPIRE,", () => {
  for (const [name, steps] of Object.entries(stockAnswers)) {
    test(name, () =>
      onServer(async (running) => {
        for (const step of steps) await take(step, running);
      }),
    );
  }
});

describe("a minted X.509-SVID", () => {
  let running: TestServer;
  beforeAll(async () => {
    running = await startTestServer();
  });
  afterAll(() => running.close());

  async function mint(dnsNames: readonly string[], subject?: Uint8Array): Promise<Uint8Array> {
    const key = await generateKey("ec-p256");
    const uri = makeSpiffeId(trustDomain, "/minted");
    const request = { key, uri, dnsNames, ...(subject ? { subjectDer: subject } : {}) };
    const csr = Buffer.from(await createCertificateRequest(request));
    const { svid } = await running.local.client(SVIDService).mintX509Svid({ csr, ttl: 0 });
    return svid?.certChain[0] ?? new Uint8Array();
  }

  test.each([[["*.a.test"]], [["a.test", "*.a.test"]], [["b.c.a.test", "*.a.test"]]])(
    "may have the names %p",
    async (names) => {
      expect(parseCertificate(await mint(names)).dnsNames).toEqual(names);
    },
  );

  test.each([
    [
      ["*.a.test", "b.a.test"],
      'CSR DNS name contains a wildcard that covers another non-wildcard name: name "b.a.test" overlaps with an existing wildcard name in the list: wildcard overlap',
    ],
    [["*.*.test"], "CSR DNS name is invalid: too many wildcards"],
  ])("may not have the names %p", async (names, message) => {
    expect(await failureOf(mint(names))).toMatchObject({ code: "INVALID_ARGUMENT", message });
  });

  test("has the parts of its subject in Go's order", async () => {
    const subject: Name = {
      organization: ["O"],
      organizationalUnit: ["U"],
      country: ["DE"],
      locality: ["L"],
      province: ["P"],
      streetAddress: ["S"],
      postalCode: ["1"],
      commonName: ["c"],
      serialNumber: ["7"],
    };
    const { subjectDer } = parseCertificate(await mint([], encodeName(subject)));
    expect(formatSubject(subjectDer)).toBe(
      "SERIALNUMBER=7,CN=c,OU=U,O=O,POSTALCODE=1,STREET=S,L=L,ST=P,C=DE",
    );
  });

  test("has critical names when its subject is empty", async () => {
    const names = "0603551d11";
    const critical = `${names}0101ff`;
    const hex = async (subject?: Uint8Array) => Buffer.from(await mint([], subject)).toString("hex");
    // A given name, which Go drops when it writes a subject again.
    const dropped = encodeName({ extra: [{ oid: "2.5.4.42", value: "x" }] });
    expect(await hex(dropped)).toContain(critical);
    const usual = await hex();
    expect(usual).toContain(names);
    expect(usual).not.toContain(critical);
  });
});

test("without JWT-SVIDs there is no JWT authority, and nothing about one to ask", () =>
  onServer(
    async ({ local }) => {
      const bundle = await local.client(BundleService).getBundle({ outputMask: undefined });
      expect(bundle.jwtAuthorities).toEqual([]);
      expect(bundle.x509Authorities).toHaveLength(1);
      const client = local.client(LocalAuthorityService);
      const authorityId = "x";
      const refusal = { code: "UNIMPLEMENTED", message: "JWT functionality is disabled" };
      expect(await failureOf(client.getJwtAuthorityState({}))).toMatchObject(refusal);
      expect(await failureOf(client.prepareJwtAuthority({}))).toMatchObject(refusal);
      expect(await failureOf(client.activateJwtAuthority({ authorityId }))).toMatchObject(refusal);
      expect(await failureOf(client.taintJwtAuthority({ authorityId }))).toMatchObject(refusal);
      expect(await failureOf(client.revokeJwtAuthority({ authorityId }))).toMatchObject(refusal);
    },
    { disableJwtSvids: true },
  ));

test("authorities are moved and refused in SPIRE's words", () =>
  onServer(async ({ local }) => {
    const client = local.client(LocalAuthorityService);
    const first = (await client.getX509AuthorityState({})).active?.authorityId ?? "";
    const next = (await client.prepareX509Authority({})).preparedAuthority?.authorityId ?? "";
    await client.activateX509Authority({ authorityId: next });
    expect(await failureOf(client.activateX509Authority({ authorityId: first }))).toMatchObject({
      code: "INTERNAL",
      message: "only Prepared authorities can be activated: unsupported local authority status: OLD",
    });
    await client.taintX509Authority({ authorityId: first });
    await client.revokeX509Authority({ authorityId: first });
    expect(await failureOf(client.taintX509Authority({ authorityId: first }))).toMatchObject({
      code: "INTERNAL",
      message: "failed to taint X.509 authority: no ca found with provided subject key ID",
    });
  }));

test("a tainted JWT key can be revoked even when its slot holds another by now", () =>
  onServer(async ({ local }) => {
    const client = local.client(LocalAuthorityService);
    const first = (await client.getJwtAuthorityState({})).active?.authorityId ?? "";
    const next = (await client.prepareJwtAuthority({})).preparedAuthority?.authorityId ?? "";
    await client.activateJwtAuthority({ authorityId: next });
    await client.taintJwtAuthority({ authorityId: first });
    await client.prepareJwtAuthority({});
    expect((await client.revokeJwtAuthority({ authorityId: first })).revokedAuthority).toMatchObject({
      authorityId: first,
      expiresAt: 0,
    });
    const { jwtAuthorities } = await local.client(BundleService).getBundle({ outputMask: undefined });
    expect(jwtAuthorities.map(({ keyId }) => keyId)).not.toContain(first);
  }));

describe("attestation", () => {
  const attest = async ({ anonymous }: TestServer, type: string, payload: Uint8Array, csr: Buffer) => {
    const conversation = anonymous.client(AgentService).attestAgent();
    const data = { type, payload: Buffer.from(payload) };
    await conversation.send({ step: { $case: "params", value: { data, params: { csr } } } });
    return conversation;
  };

  test("asks for an attestor first, and knows no malformed token", () =>
    onServer(async (running) => {
      const unknown = await attest(running, "nope", Buffer.from("x"), Buffer.from("garbage"));
      expect(await failureOf(unknown.receive())).toMatchObject({ code: "FAILED_PRECONDITION" });
      const csr = await csrOf(await generateKey("ec-p256"));
      for (const token of [Buffer.from("a b"), Buffer.from([0xff])]) {
        const conversation = await attest(running, "join_token", token, csr);
        expect(await failureOf(conversation.receive())).toMatchObject({
          code: "INVALID_ARGUMENT",
          message: "failed to attest: join token does not exist or has already been used",
        });
      }
    }));

  test("ends as the server's failure when a challenge stays unanswered", async () => {
    const node = await createGoldenNode();
    await onServer(
      async (running) => {
        const csr = await csrOf(await generateKey("ec-p256"));
        const conversation = await attest(running, "x509pop", node.payload, csr);
        await conversation.receive();
        conversation.end();
        expect(await failureOf(conversation.receive())).toMatchObject({
          code: "INTERNAL",
          message: "failed to receive challenge from agent: EOF",
        });
      },
      { nodeAttestors: [node.attestor] },
    ).finally(() => node.remove());
  });

  test("is what an agent that can attest again is told first when it renews", () =>
    onServer(async (running) => {
      const agent = await running.attest();
      await running.server.registry.updateNode(agent.id, { canReattest: true });
      const failure = await failureOf(agent.channel.client(AgentService).renewAgent({ params: undefined }));
      expect(failure).toMatchObject({
        code: "PERMISSION_DENIED",
        message: "agent must reattest instead of renew",
      });
    }));
});

test("an agent's version has 255 bytes at most", () =>
  onServer(async (running) => {
    const agent = (await running.attest()).channel.client(AgentService);
    const post = (agentVersion: string) => agent.postStatus({ currentBundleSerial: 0, agentVersion });
    await post("ü".repeat(127));
    expect(await failureOf(post("ü".repeat(128)))).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "agent version is too long (max 255 characters)",
    });
  }));

test("entries that an agent asks for come ordered by ID", () =>
  onServer(async (running) => {
    const agent = await running.attest();
    const parentId = { trustDomain, path: new URL(agent.id).pathname };
    const drafts = Array.from({ length: 501 }, (_, index) =>
      entryMessage({ id: `e${index}`, spiffeId: { trustDomain, path: `/${index}` }, parentId }),
    );
    const client = running.local.client(EntryService);
    await client.batchCreateEntry({ entries: drafts, outputMask: undefined });
    const conversation = agent.channel.client(EntryService).syncAuthorizedEntries();
    await conversation.send({ ids: [], outputMask: undefined });
    while ((await conversation.receive())?.more) {}
    await conversation.send({ ids: ["e30", "none", "e4", "e200"], outputMask: undefined });
    const answer = await conversation.receive();
    conversation.end();
    expect(answer?.entries.map(({ id }) => id)).toEqual(["e200", "e30", "e4"]);
  }));
