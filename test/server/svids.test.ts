/** Entries and SVIDs over the wire: sync in pages, batches, minting, downstream servers, JWT-SVIDs. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { verifyJwtSvid } from "../../src/core/jwt-svid.ts";
import { generateKey } from "../../src/core/keys.ts";
import { parseCertificate, publicKeyOf } from "../../src/core/x509/certificate.ts";
import { createIssuer, issueWorkloadSvid } from "../../src/core/x509/issue.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { DebugService } from "../../src/rpc/gen/spire/api/server/debug/v1/debug.ts";
import {
  EntryService,
  type SyncAuthorizedEntriesRequest,
  type SyncAuthorizedEntriesResponse,
} from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Entry, EntryMask } from "../../src/rpc/gen/spire/api/types/entry.ts";
import type { Conversation } from "../../src/rpc/service.ts";
import { failureOf } from "./failure.ts";
import {
  csrOf,
  entryMessage,
  idMessage,
  newPublicKeyInfo,
  startTestServer,
  type TestAgent,
  type TestServer,
  withBadSignature,
} from "./running.ts";

let running: TestServer;
let agent: TestAgent;
beforeAll(async () => {
  running = await startTestServer();
  agent = await running.attest();
});
afterAll(() => running.close());

const now = () => Math.floor(running.clock.now() / 1000);
const parentId = () => idMessage(agent.id.slice("spiffe://example.org".length));

async function createEntries(entries: readonly Partial<Entry>[]): Promise<Entry[]> {
  const messages = entries.map((entry) => entryMessage({ parentId: parentId(), ...entry }));
  const client = running.local.client(EntryService);
  const { results } = await client.batchCreateEntry({ entries: messages, outputMask: undefined });
  return results.map(({ status, entry }) => {
    expect(status).toEqual({ code: 0, message: "OK" });
    return entryMessage(entry ?? {});
  });
}

describe("X.509-SVIDs for workloads", () => {
  test("come in the order of the batch, each item with a status of its own", async () => {
    const [entry] = await createEntries([
      { spiffeId: idMessage("/svc"), dnsNames: ["svc.test", "b.test"], x509SvidTtl: 120, hint: "h" },
    ]);
    const key = await generateKey("ec-p256");
    const entryId = entry?.id ?? "";
    const csr = await csrOf(key, running.idOf("/somebody/else"));
    const { results } = await agent.channel.client(SVIDService).batchNewX509Svid({
      params: [
        { entryId, csr },
        { entryId: "unknown", csr },
        { entryId, csr: withBadSignature(csr) },
        { entryId, csr: Buffer.from("not DER") },
        { entryId, csr },
      ],
    });
    expect(results.map(({ status }) => status?.code)).toEqual([0, 5, 3, 3, 0]);
    const { id, certificate } = verifySvidChain(
      results[0]?.svid?.certChain ?? [],
      running.server.bundle(),
      now(),
    );
    expect(id).toBe(running.idOf("/svc"));
    expect(certificate.dnsNames).toEqual(["svc.test", "b.test"]);
    expect(certificate.notAfter - certificate.notBefore).toBe(130);
    expect(publicKeyOf(certificate).equals(key.publicKey)).toBe(true);
    expect(results[0]?.svid?.expiresAt).toBe(certificate.notAfter);
  });

  test("five hundred in one call", async () => {
    const [entry] = await createEntries([{ spiffeId: idMessage("/many") }]);
    const csr = await csrOf(await generateKey("ec-p256"));
    const params = Array.from({ length: 500 }, () => ({ entryId: entry?.id ?? "", csr }));
    const { results } = await agent.channel.client(SVIDService).batchNewX509Svid({ params });
    const serials = results.map(({ svid }) => parseCertificate(svid?.certChain[0] ?? csr).serialNumber);
    expect(new Set(serials).size).toBe(500);
  });
});

describe("JWT-SVIDs", () => {
  test("for a workload verify by the bundle that the server gives out", async () => {
    const [entry] = await createEntries([
      { spiffeId: idMessage("/jwt"), jwtSvidTtl: 60, hint: "h", additionalAttributes: withJti },
    ]);
    const request = { entryId: entry?.id ?? "", audience: ["db"] };
    const { svid } = await agent.channel.client(SVIDService).newJwtsvid(request);
    const { jwtAuthorities } = await agent.channel.client(BundleService).getBundle({ outputMask: undefined });
    const find = (_: unknown, keyId: string) => jwtAuthorities.find((key) => key.keyId === keyId);
    const verified = await verifyJwtSvid(svid?.token ?? "", find, "db", now());
    expect(verified.spiffeId).toBe(running.idOf("/jwt"));
    expect(svid?.hint).toBe("");
    expect(verified.claims["jti"]).toBeString();
    expect(Number(svid?.expiresAt) - Number(svid?.issuedAt)).toBe(60);
  });

  test("are refused when they are switched off", async () => {
    const off = await startTestServer({ disableJwtSvids: true });
    const mint = off.local.client(SVIDService).mintJwtsvid({ id: idMessage("/a"), audience: ["a"], ttl: 0 });
    expect(await failureOf(mint)).toMatchObject({
      code: "UNIMPLEMENTED",
      message: "JWT functionality is disabled",
    });
    await off.close();
  });
});

const withJti = { disableX509SvidPrefetch: false, jwtSvidIncludeJti: true };

describe("minting", () => {
  test("keeps DNS names and lifetime of the request", async () => {
    const key = await generateKey("ec-p384");
    const csr = await csrOf(key, running.idOf("/minted"));
    const { svid } = await running.local.client(SVIDService).mintX509Svid({ csr, ttl: 600 });
    const { id, certificate } = verifySvidChain(svid?.certChain ?? [], running.server.bundle(), now());
    expect(id).toBe(running.idOf("/minted"));
    expect(certificate.notAfter - certificate.notBefore).toBe(610);
  });
});

test("a downstream server gets a CA whose SVIDs verify by this server's bundle", async () => {
  await createEntries([{ spiffeId: idMessage("/downstream"), downstream: true }]);
  const channel = running.dial(await running.mint("/downstream"));
  const key = await generateKey("ec-p256");
  const request = { csr: await csrOf(key), preferredTtl: 600 };
  const { caCertChain, x509Authorities } = await channel.client(SVIDService).newDownstreamX509Ca(request);
  const [ca = Buffer.alloc(0)] = caCertChain;
  expect(parseCertificate(ca)).toMatchObject({ isCa: true, uris: ["spiffe://example.org"] });
  expect(x509Authorities).toHaveLength(1);
  const workload = { publicKeyInfo: await newPublicKeyInfo(), dnsNames: [], ttlSeconds: 60 };
  const svid = await issueWorkloadSvid(
    createIssuer(key, ca, []),
    { ...workload, spiffeId: running.idOf("/below") },
    now(),
  );
  const { id } = verifySvidChain([svid.der, ...caCertChain], running.server.bundle(), now());
  expect(id).toBe(running.idOf("/below"));
});

describe("the sync of authorized entries", () => {
  const mask: EntryMask = {
    spiffeId: true,
    parentId: false,
    selectors: false,
    x509SvidTtl: false,
    federatesWith: false,
    admin: false,
    downstream: false,
    expiresAt: false,
    dnsNames: false,
    revisionNumber: true,
    storeSvid: false,
    jwtSvidTtl: false,
    hint: false,
    createdAt: true,
    additionalAttributes: false,
  };
  type Sync = Conversation<SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse>;

  /** One answer: messages up to the one that says there is no more. */
  async function answer(sync: Sync, request: SyncAuthorizedEntriesRequest) {
    await sync.send(request);
    const messages: SyncAuthorizedEntriesResponse[] = [];
    for (;;) {
      const message = await sync.receive();
      if (!message) throw new Error("the server ended the sync");
      messages.push(message);
      if (!message.more) return messages;
    }
  }

  test("sends up to 500 whole, in one message, and is over", async () => {
    const small = await running.attest();
    const parent = idMessage(small.id.slice("spiffe://example.org".length));
    await createEntries([{ spiffeId: idMessage("/small"), parentId: parent, hint: "left out" }]);
    const sync = small.channel.client(EntryService).syncAuthorizedEntries();
    const [first] = await answer(sync, { ids: [], outputMask: mask });
    expect(first).toMatchObject({ entryRevisions: [], more: false });
    expect(first?.entries).toMatchObject([{ spiffeId: idMessage("/small"), hint: "", parentId: undefined }]);
    expect(await sync.receive()).toBeUndefined();
  });

  test("sends revisions of more than 500, and then the entries that are asked for", async () => {
    const big = await running.attest();
    const parent = idMessage(big.id.slice("spiffe://example.org".length));
    const drafts = Array.from({ length: 1_201 }, (_, index) => ({
      spiffeId: idMessage(`/big/${index}`),
      parentId: parent,
    }));
    const created = await createEntries(drafts);
    const sync = big.channel.client(EntryService).syncAuthorizedEntries();
    const revisions = await answer(sync, { ids: [], outputMask: mask });
    expect(revisions.map(({ entryRevisions }) => entryRevisions.length)).toEqual([500, 500, 201]);
    expect(revisions.flatMap(({ entries }) => entries)).toEqual([]);
    const listed = revisions.flatMap(({ entryRevisions }) => entryRevisions.map(({ id }) => id));
    expect(listed).toEqual(created.map(({ id }) => id).sort());

    const wanted = listed.slice(0, 600);
    const pages = await answer(sync, { ids: [...wanted, "unknown"], outputMask: undefined });
    expect(pages.map(({ entries }) => entries.length)).toEqual([500, 100]);
    expect(pages.flatMap(({ entries }) => entries.map(({ id }) => id))).toEqual(wanted);
    expect(pages[0]?.entries[0]?.parentId).toBeUndefined();
    const nothing = await answer(sync, { ids: ["unknown"], outputMask: undefined });
    expect(nothing).toEqual([{ entries: [], entryRevisions: [], more: false }]);
    sync.end();
    expect(await sync.receive()).toBeUndefined();
  });

  test("doesn't begin with IDs", async () => {
    const sync = agent.channel.client(EntryService).syncAuthorizedEntries();
    await sync.send({ ids: ["a"], outputMask: undefined });
    expect(await failureOf(sync.receive())).toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

test("a change of an entry is in the next answer", async () => {
  const [entry] = await createEntries([{ spiffeId: idMessage("/changes"), hint: "before" }]);
  const client = running.local.client(EntryService);
  const id = entry?.id ?? "";
  const authorized = async () => {
    const { entries } = await agent.channel
      .client(EntryService)
      .getAuthorizedEntries({ outputMask: undefined });
    return entries.find((other) => other.id === id);
  };
  expect(await authorized()).toMatchObject({ hint: "before", revisionNumber: 0 });
  const update = entryMessage({ ...entry, hint: "after" });
  await client.batchUpdateEntry({ entries: [update], inputMask: undefined, outputMask: undefined });
  expect(await authorized()).toMatchObject({ hint: "after", revisionNumber: 1 });
  await client.batchDeleteEntry({ ids: [id] });
  expect(await authorized()).toBeUndefined();
});

test("the debug service shows the server's chain and what it holds", async () => {
  const info = await running.local.client(DebugService).getInfo({});
  expect(info.svidChain.map(({ id }) => id)).toEqual([idMessage("/spire/server"), idMessage("")]);
  expect(info.svidChain[0]?.subject).toBe("O=SPIRE,C=US");
  expect(info.agentsCount).toBeGreaterThan(0);
  expect(info.entriesCount).toBeGreaterThan(0);
  expect(info.federatedBundlesCount).toBe(0);
});

test("a message of more than 4 MB is refused", async () => {
  const client = running.local.client(EntryService);
  const entries = [entryMessage({ parentId: parentId(), hint: "x".repeat(5 * 1024 * 1024) })];
  const refused = client.batchCreateEntry({ entries, outputMask: undefined });
  expect(await failureOf(refused)).toMatchObject({ code: "RESOURCE_EXHAUSTED" });
});
