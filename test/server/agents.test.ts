/** Agents over the wire: attestation, what their certificates allow, renewal, ban, eviction. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SpireError } from "../../src/core/errors.ts";
import { generateKey } from "../../src/core/keys.ts";
import { parseCertificate, publicKeyOf } from "../../src/core/x509/certificate.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import {
  PermissionDeniedDetails,
  PermissionDeniedDetails_Reason,
} from "../../src/rpc/gen/spire/api/types/status.ts";
import { failureOf } from "./failure.ts";
import {
  attestWith,
  csrOf,
  idMessage,
  startTestServer,
  type TestAgent,
  type TestServer,
  withBadSignature,
} from "./running.ts";

let running: TestServer;
beforeAll(async () => {
  running = await startTestServer();
});
afterAll(() => running.close());

const now = () => Math.floor(running.clock.now() / 1000);
const newToken = async (ttlSeconds = 600) =>
  (await running.server.registry.createJoinToken({ ttlSeconds })).token;
const newCsr = async () => csrOf(await generateKey("ec-p256"));
const attest = (token: string, csr: Buffer) => attestWith(running.anonymous.client(AgentService), token, csr);
const authorizedEntries = ({ channel }: Pick<TestAgent, "channel">) =>
  channel.client(EntryService).getAuthorizedEntries({ outputMask: undefined });

/** The reason in the details of a refusal. */
async function refusalOf(call: Promise<unknown>): Promise<string | undefined> {
  const error = await call.then(
    () => undefined,
    (caught: unknown) => SpireError.from(caught),
  );
  expect(error?.code).toBe("PERMISSION_DENIED");
  const [detail] = error?.details ?? [];
  expect(detail?.typeUrl).toBe("type.googleapis.com/spire.api.types.PermissionDeniedDetails");
  const { reason } = PermissionDeniedDetails.decode(detail?.value ?? new Uint8Array());
  return Object.entries(PermissionDeniedDetails_Reason).find(([, number]) => number === reason)?.[0];
}

describe("attestation by join token", () => {
  test("gives an SVID for the key of the CSR, and the agent is listed", async () => {
    const token = await newToken();
    const key = await generateKey("ec-p256");
    const svid = await attest(token, await csrOf(key));
    const { id, certificate } = verifySvidChain(svid.certChain, running.server.bundle(), now());
    expect(id).toBe(running.idOf(`/spire/agent/join_token/${token}`));
    expect(publicKeyOf(certificate).equals(key.publicKey)).toBe(true);
    expect(svid.expiresAt).toBe(certificate.notAfter);
    const path = `/spire/agent/join_token/${token}`;
    const request = { id: idMessage(path), outputMask: undefined };
    expect(await running.local.client(AgentService).getAgent(request)).toMatchObject({
      attestationType: "join_token",
      banned: false,
      canReattest: false,
      x509svidSerialNumber: certificate.serialNumber,
    });
  });

  test("works once, also for two at the same time", async () => {
    const token = await newToken();
    const results = await Promise.allSettled([attest(token, await newCsr()), attest(token, await newCsr())]);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect((await failureOf(attest(token, await newCsr()))).message).toContain(
      "join token does not exist or has already been used",
    );
  });

  test("refuses an expired token and an unknown one", async () => {
    const token = await newToken(5);
    running.clock.putForward(6_000);
    expect((await failureOf(attest(token, await newCsr()))).message).toContain("join token expired");
    expect(await failureOf(attest("nope", await newCsr()))).toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test.each([
    ["is not DER", async () => Buffer.from("garbage")],
    ["has a bad signature", async () => withBadSignature(await newCsr())],
  ])("refuses a CSR that %s, and the token stays good", async (_, makeCsr) => {
    const token = await newToken();
    expect(await failureOf(attest(token, await makeCsr()))).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect((await attest(token, await newCsr())).id?.path).toBe(`/spire/agent/join_token/${token}`);
  });

  test("names the agent by the token, whatever ID the CSR asks for", async () => {
    const token = await newToken();
    const key = await generateKey("ec-p256");
    const svid = await attest(token, await csrOf(key, running.idOf("/spire/server")));
    const { id } = verifySvidChain(svid.certChain, running.server.bundle(), now());
    expect(id).toBe(running.idOf(`/spire/agent/join_token/${token}`));
  });

  test("gives the agent the further ID that its token was made for", async () => {
    const client = running.local.client(AgentService);
    const { value } = await client.createJoinToken({ ttl: 60, token: "", agentId: idMessage("/rack") });
    const { entries } = await running.local.client(EntryService).listEntries({
      filter: {
        bySpiffeId: idMessage("/rack"),
        byParentId: undefined,
        bySelectors: undefined,
        byFederatesWith: undefined,
        byHint: undefined,
        byDownstream: undefined,
      },
      outputMask: undefined,
      pageSize: 0,
      pageToken: "",
    });
    const owner = `/spire/agent/join_token/${value}`;
    expect(entries).toMatchObject([
      { parentId: idMessage(owner), selectors: [{ type: "spiffe_id", value: running.idOf(owner) }] },
    ]);
  });
});

describe("an agent's rights", () => {
  test("end with its ban, on the connection that is open, and it can't attest again", async () => {
    const agent = await running.attest();
    await authorizedEntries(agent);
    const id = idMessage(agent.id.slice("spiffe://example.org".length));
    await running.local.client(AgentService).banAgent({ id });
    expect(await refusalOf(authorizedEntries(agent))).toBe("AGENT_BANNED");
    expect(await refusalOf(renew(agent))).toBe("AGENT_BANNED");
    const bundle = await agent.channel.client(BundleService).getBundle({ outputMask: undefined });
    expect(bundle.x509Authorities).not.toBeEmpty();
    // A token of the same name, as an attestor with lasting evidence would offer it.
    const token = id.path.slice("/spire/agent/join_token/".length);
    await running.server.registry.createJoinToken({ token, ttlSeconds: 60 });
    expect((await failureOf(attest(token, await newCsr()))).message).toContain(
      "failed to attest: agent is banned",
    );
    expect(await refusalOf(authorizedEntries(agent))).toBe("AGENT_BANNED");
  });

  test("end with its eviction", async () => {
    const agent = await running.attest();
    const id = idMessage(agent.id.slice("spiffe://example.org".length));
    await running.local.client(AgentService).deleteAgent({ id });
    expect(await refusalOf(authorizedEntries(agent))).toBe("AGENT_NOT_ATTESTED");
  });

  test("move to the renewed certificate with its first use", async () => {
    const agent = await running.attest();
    const { certificates, channel } = await renewed(agent);
    await authorizedEntries(agent);
    await authorizedEntries({ channel });
    expect(await refusalOf(authorizedEntries(agent))).toBe("AGENT_NOT_ACTIVE");
    const node = await running.server.registry.getNode(agent.id);
    const [leaf] = certificates;
    expect(node).toMatchObject({
      serialNumber: leaf && parseCertificate(leaf).serialNumber,
      newSerialNumber: "",
      newExpiresAt: 0,
    });
  });

  test("stay with the renewed certificate after a second renewal that is never used", async () => {
    const agent = await running.attest();
    const { channel } = await renewed(agent);
    await authorizedEntries({ channel });
    await renew({ channel });
    await authorizedEntries({ channel });
  });

  test("are not renewed for a CSR with a bad signature", async () => {
    const agent = await running.attest();
    const csr = withBadSignature(await newCsr());
    const refused = agent.channel.client(AgentService).renewAgent({ params: { csr } });
    expect((await failureOf(refused)).message).toContain("failed to verify CSR signature");
    expect(await running.server.registry.getNode(agent.id)).toMatchObject({ newSerialNumber: "" });
  });

  test("don't include renewal where the node can attest again", async () => {
    const agent = await running.attest();
    await running.server.registry.updateNode(agent.id, { canReattest: true });
    expect(await refusalOf(renew(agent))).toBe("AGENT_MUST_REATTEST");
  });

  test("end with its certificate, on the connection that is open", async () => {
    const own = await startTestServer();
    const agent = await own.attest();
    await authorizedEntries(agent);
    own.clock.putForward(3_700_000);
    expect(await refusalOf(authorizedEntries(agent))).toBe("AGENT_EXPIRED");
    await own.close();
  });
});

test("an agent's version is kept, and a longer one than 255 characters refused", async () => {
  const agent = await running.attest();
  const client = agent.channel.client(AgentService);
  await client.postStatus({ agentVersion: "1.2.3", currentBundleSerial: 0 });
  await client.postStatus({ agentVersion: "", currentBundleSerial: 1 });
  const tooLong = client.postStatus({ agentVersion: "x".repeat(256), currentBundleSerial: 0 });
  expect(await failureOf(tooLong)).toMatchObject({ code: "INVALID_ARGUMENT" });
  expect(await running.server.registry.getNode(agent.id)).toMatchObject({ agentVersion: "1.2.3" });
});

async function renew({ channel }: Pick<TestAgent, "channel">) {
  return channel.client(AgentService).renewAgent({ params: { csr: await newCsr() } });
}

async function renewed(agent: TestAgent) {
  const key = await generateKey("ec-p256");
  const { svid } = await agent.channel.client(AgentService).renewAgent({ params: { csr: await csrOf(key) } });
  const certificates = svid?.certChain ?? [];
  return { certificates, channel: running.dial({ chain: certificates, privateKey: key.privateKey }) };
}
