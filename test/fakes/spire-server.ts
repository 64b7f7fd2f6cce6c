/** A SPIRE server as an agent sees it: real TLS, real certificates, and everything a test wants to turn. */
import { createManualClock, type ManualClock, systemClock, unixSeconds } from "../../src/core/clock.ts";
import type { Entry } from "../../src/core/entry.ts";
import { SpireError } from "../../src/core/errors.ts";
import { signJwtSvid } from "../../src/core/jwt-svid.ts";
import { exportPublicKeyInfo, generateKey } from "../../src/core/keys.ts";
import { nullLogger } from "../../src/core/log.ts";
import {
  agentId,
  parseTrustDomain,
  pathOf,
  type SpiffeId,
  serverId,
  type TrustDomain,
  trustDomainOf,
} from "../../src/core/spiffe-id.ts";
import type { TrustBundle } from "../../src/core/trust-bundle.ts";
import { parseCertificateRequest } from "../../src/core/x509/csr.ts";
import {
  createIssuer,
  type IssuedCertificate,
  issueAgentSvid,
  issueSelfSignedCa,
  issueServerSvid,
  issueWorkloadSvid,
} from "../../src/core/x509/issue.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Bundle as BundleMessage } from "../../src/rpc/gen/spire/api/types/bundle.ts";
import type { Entry as EntryMessage } from "../../src/rpc/gen/spire/api/types/entry.ts";
import { PermissionDeniedDetails } from "../../src/rpc/gen/spire/api/types/status.ts";
import { listenTls } from "../../src/rpc/listen.ts";
import { bindService, type Call } from "../../src/rpc/service.ts";

export const exampleOrg = parseTrustDomain("example.org");

/** Lifetimes in seconds. */
const caTtl = 24 * 3600;
const svidTtl = 3600;
const jwtTtl = 300;
const pageSize = 3;

export interface FakeServer {
  /** `host:port`. */
  readonly address: string;
  readonly clock: ManualClock;
  /** Tokens that are good for one attestation each. */
  readonly tokens: Set<string>;
  readonly entries: Map<string, Entry>;
  readonly federated: Map<TrustDomain, TrustBundle>;
  /** Names of the methods called, in order. */
  readonly calls: string[];
  /** Serial numbers of agent SVIDs that were shown, in order, each once. */
  readonly shown: string[];
  bundle(): TrustBundle;
  /** Resolves at the next call of a method. */
  nextCall(method: string): Promise<void>;
  /** What each call of an agent fails with, until it is undefined again. */
  refuse(error: SpireError | undefined): void;
  /** Entry IDs for which no SVID is signed. */
  readonly unsigned: Set<string>;
  /** Marks the X.509 authority as tainted and goes on with a new one. */
  replaceCa(): Promise<void>;
  makeReattestable(): void;
  /** Adds an entry for the agents of this server and returns it. */
  addEntry(draft: Partial<Entry> & Pick<Entry, "id" | "selectors">): Entry;
  close(): Promise<void>;
}

/** PERMISSION_DENIED with the numbered reason, as a server refuses an agent. */
export const denial = (reason: PermissionDeniedDetails["reason"]): SpireError =>
  new SpireError("PERMISSION_DENIED", "authorization denied", {
    details: [
      {
        typeUrl: "type.googleapis.com/spire.api.types.PermissionDeniedDetails",
        value: PermissionDeniedDetails.encode({ reason }).finish(),
      },
    ],
  });

export async function startFakeServer(
  clock: ManualClock = createManualClock(Date.now()),
): Promise<FakeServer> {
  const entries = new Map<string, Entry>();
  const federated = new Map<TrustDomain, TrustBundle>();
  const tokens = new Set<string>();
  const unsigned = new Set<string>();
  const calls: string[] = [];
  const shown: string[] = [];
  const waiting = new Map<string, (() => void)[]>();
  const now = () => unixSeconds(clock);
  const began = now();
  const jwtKey = await generateKey("ec-p256");
  let reattestable = false;
  let refusal: SpireError | undefined;
  let issuer = await createCa();
  let identity = await createIdentity();
  const authorities: { der: Uint8Array; tainted: boolean }[] = [
    { der: issuer.certificateDer, tainted: false },
  ];
  const identityListeners = new Set<() => void>();

  async function createCa() {
    const key = await generateKey("ec-p256");
    const ca = await issueSelfSignedCa({ key, trustDomain: exampleOrg, ttlSeconds: caTtl }, now());
    return createIssuer(key, ca.der, []);
  }

  async function createIdentity() {
    const key = await generateKey("ec-p256");
    const publicKeyInfo = exportPublicKeyInfo(key.publicKey);
    const parameters = { spiffeId: serverId(exampleOrg), publicKeyInfo, ttlSeconds: 3 * caTtl };
    const { der } = await issueServerSvid(issuer, parameters, now());
    return { chain: [der], privateKey: key.privateKey };
  }

  const bundle = (): TrustBundle => ({
    trustDomain: exampleOrg,
    x509Authorities: authorities.map((authority) => ({ ...authority })),
    jwtAuthorities: [
      {
        keyId: "jwt-key",
        publicKey: exportPublicKeyInfo(jwtKey.publicKey),
        expiresAt: began + caTtl,
        tainted: false,
      },
    ],
    witAuthorities: [],
    refreshHint: 0,
    sequenceNumber: authorities.length,
  });

  function note(name: string, call: Call, isAgents = true): void {
    calls.push(name);
    for (const wake of waiting.get(name) ?? []) wake();
    waiting.delete(name);
    if (!isAgents) return;
    const serial = call.caller.svid?.serialNumber;
    if (serial === undefined) throw new SpireError("PERMISSION_DENIED", "anonymous");
    if (!shown.includes(serial)) shown.push(serial);
    if (refusal) throw refusal;
  }

  const svidMessage = (id: SpiffeId, issued: IssuedCertificate) => ({
    certChain: [Buffer.from(issued.der)],
    id: idMessage(id),
    expiresAt: issued.notAfter,
    hint: "",
  });

  async function signAgent(id: SpiffeId, csr: Uint8Array) {
    const { publicKeyInfo } = parseCertificateRequest(csr);
    const parameters = { spiffeId: id, publicKeyInfo, ttlSeconds: svidTtl };
    return svidMessage(id, await issueAgentSvid(issuer, parameters, now()));
  }

  const agentApi = bindService(AgentService, {
    async *attestAgent(requests, call) {
      note("AttestAgent", call, false);
      for await (const { step } of requests) {
        if (step?.$case !== "params") throw new SpireError("INVALID_ARGUMENT", "no params");
        const token = step.value.data?.payload.toString() ?? "";
        if (!tokens.delete(token)) {
          throw new SpireError("INVALID_ARGUMENT", "failed to attest: join token does not exist");
        }
        const id = agentId(exampleOrg, `/join_token/${token}`);
        const svid = await signAgent(id, step.value.params?.csr ?? Buffer.alloc(0));
        yield { step: { $case: "result", value: { svid, reattestable } } };
        return;
      }
    },
    async renewAgent({ params }, call) {
      note("RenewAgent", call);
      const id = call.caller.svid?.id;
      if (!id || !params) throw new SpireError("INVALID_ARGUMENT", "no params");
      return { svid: await signAgent(id, params.csr) };
    },
    async postStatus(_request, call) {
      note("PostStatus", call);
      return {};
    },
  });

  const bundleApi = bindService(BundleService, {
    async getBundle(_request, call) {
      note("GetBundle", call, false);
      return bundleMessage(bundle());
    },
    async getFederatedBundle({ trustDomain }, call) {
      note("GetFederatedBundle", call);
      const found = federated.get(parseTrustDomain(trustDomain));
      if (!found) throw new SpireError("NOT_FOUND", "bundle not found");
      return bundleMessage(found);
    },
  });

  const entryApi = bindService(EntryService, {
    async *syncAuthorizedEntries(requests, call) {
      const conversation = requests[Symbol.asyncIterator]();
      await conversation.next();
      note("SyncAuthorizedEntries", call);
      const all = [...entries.values()].map(entryMessage);
      if (all.length <= pageSize) {
        yield { entryRevisions: [], entries: all, more: false };
        return;
      }
      for (const [page, more] of pages(all)) {
        const entryRevisions = page.map(({ id, revisionNumber, createdAt }) => ({
          id,
          revisionNumber,
          createdAt,
        }));
        yield { entryRevisions, entries: [], more };
      }
      for (let request = await conversation.next(); !request.done; request = await conversation.next()) {
        const { ids } = request.value;
        calls.push(`ids ${ids.join(",")}`);
        const wanted = all.filter(({ id }) => ids.includes(id));
        for (const [page, more] of pages(wanted)) yield { entryRevisions: [], entries: page, more };
        if (wanted.length === 0) yield { entryRevisions: [], entries: [], more: false };
      }
    },
  });

  const svidApi = bindService(SVIDService, {
    async batchNewX509Svid({ params }, call) {
      note("BatchNewX509SVID", call);
      const results = params.map(async ({ entryId, csr }) => {
        const entry = entries.get(entryId);
        if (!entry || unsigned.has(entryId)) {
          return { status: { code: 5, message: "entry not found or not authorized" }, svid: undefined };
        }
        const { publicKeyInfo } = parseCertificateRequest(csr);
        const parameters = {
          spiffeId: entry.spiffeId,
          publicKeyInfo,
          ttlSeconds: entry.x509SvidTtl || svidTtl,
          dnsNames: entry.dnsNames,
        };
        const svid = svidMessage(entry.spiffeId, await issueWorkloadSvid(issuer, parameters, now()));
        return { status: { code: 0, message: "OK" }, svid };
      });
      return { results: await Promise.all(results) };
    },
    async newJwtsvid({ entryId, audience }, call) {
      note("NewJWTSVID", call);
      const entry = entries.get(entryId);
      if (!entry) throw new SpireError("NOT_FOUND", "entry not found or not authorized");
      const times = { issuedAt: now(), expiresAt: now() + jwtTtl };
      const { spiffeId } = entry;
      const token = await signJwtSvid({ key: jwtKey, keyId: "jwt-key", spiffeId, audience, ...times });
      return { svid: { token, id: idMessage(spiffeId), ...times, hint: "" } };
    },
  });

  const listener = await listenTls({
    host: "127.0.0.1",
    port: 0,
    services: [agentApi, bundleApi, entryApi, svidApi],
    log: nullLogger,
    clock: systemClock,
    tls: {
      identity: () => identity,
      onIdentityChange(changed) {
        identityListeners.add(changed);
        return () => identityListeners.delete(changed);
      },
      bundle: (trustDomain) => (trustDomain === exampleOrg ? bundle() : undefined),
      clock,
    },
  });

  return {
    address: listener.address,
    clock,
    tokens,
    entries,
    federated,
    calls,
    shown,
    bundle,
    unsigned,
    nextCall: (method) =>
      new Promise((resolve) => waiting.set(method, [...(waiting.get(method) ?? []), resolve])),
    refuse(error) {
      refusal = error;
    },
    async replaceCa() {
      for (const authority of authorities) authority.tainted = true;
      issuer = await createCa();
      authorities.push({ der: issuer.certificateDer, tainted: false });
      identity = await createIdentity();
      for (const changed of identityListeners) changed();
    },
    makeReattestable() {
      reattestable = true;
    },
    addEntry(draft) {
      const entry = { ...plainEntry(draft.id, now()), ...draft };
      entries.set(entry.id, entry);
      return entry;
    },
    close: () => listener.close(0),
  };
}

/** An entry with nothing special; `spiffe://example.org/<id>`. */
export const plainEntry = (id: string, createdAt: number): Entry => ({
  id,
  spiffeId: `spiffe://${exampleOrg}/${id}` as SpiffeId,
  parentId: agentId(exampleOrg, "/join_token/t"),
  selectors: [],
  x509SvidTtl: 0,
  jwtSvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  revisionNumber: 0,
  storeSvid: false,
  hint: "",
  createdAt,
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
});

function* pages<T>(items: readonly T[]): Generator<[T[], boolean]> {
  for (let start = 0; start < items.length; start += pageSize) {
    yield [items.slice(start, start + pageSize), start + pageSize < items.length];
  }
}

const idMessage = (id: SpiffeId) => ({ trustDomain: trustDomainOf(id), path: pathOf(id) });

const entryMessage = (entry: Entry): EntryMessage => ({
  ...entry,
  spiffeId: idMessage(entry.spiffeId),
  parentId: undefined,
  selectors: [...entry.selectors],
  federatesWith: [...entry.federatesWith],
  dnsNames: [...entry.dnsNames],
  additionalAttributes: {
    disableX509SvidPrefetch: entry.disableX509SvidPrefetch,
    jwtSvidIncludeJti: entry.jwtSvidIncludeJti,
  },
});

const bundleMessage = (bundle: TrustBundle): BundleMessage => ({
  trustDomain: bundle.trustDomain,
  x509Authorities: bundle.x509Authorities.map(({ der, tainted }) => ({ asn1: Buffer.from(der), tainted })),
  jwtAuthorities: bundle.jwtAuthorities.map((key) => ({ ...key, publicKey: Buffer.from(key.publicKey) })),
  witAuthorities: [],
  refreshHint: bundle.refreshHint,
  sequenceNumber: bundle.sequenceNumber,
});
