/** The recorded calls of a stock server, and servers on which they can be replayed: their callers and what was there. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock, unixSeconds } from "../../src/core/clock.ts";
import { exportPublicKeyInfo, generateKey, type LocalKey } from "../../src/core/keys.ts";
import { makeSpiffeId, parseTrustDomain, type SpiffeId } from "../../src/core/spiffe-id.ts";
import { emptyBundle } from "../../src/core/trust-bundle.ts";
import { createIssuer, issueAgentSvid, issueSelfSignedCa } from "../../src/core/x509/issue.ts";
import type { ServerSettings } from "../../src/modes/server/settings.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { TlsIdentity } from "../../src/rpc/tls.ts";
import type { RecordedCall, Replayed } from "./golden-calls.ts";
import { createGoldenNode, type GoldenNode } from "./golden-x509pop.ts";
import { csrOf, entryMessage, idMessage, startTestServer, type TestServer, trustDomain } from "./running.ts";

/** What callers have to be able to do before the first case; each scene has a server of its own. */
export interface Scene {
  readonly running: TestServer;
  /** What attests by x509pop. */
  readonly node: GoldenNode;
  /** By the name that the records give a caller. */
  readonly callers: Map<string, Channel>;
  /** Makes what was there when a case was recorded; resolves to the case as it is to be sent. */
  before(call: RecordedCall): Promise<RecordedCall>;
  after(call: RecordedCall, answer: Replayed): void;
}

/** Tokens of the recorded agents: the one that most files use, the one banned, the one evicted. */
const tokens = {
  agent: "9cdc204d-0cea-4daf-8ae9-9c909bafde00",
  banned: "f4e7747e-cbb5-4e16-ad97-51000ef52a37",
  evicted: "a28628d2-9359-4e84-ab14-1f7431aa3faf",
};

const goldenFolder = join(import.meta.dir, "../golden/errors");
export const readGolden = (file: string) =>
  JSON.parse(readFileSync(join(goldenFolder, `${file}.json`), "utf8"));
export const recorded = (file: string): readonly RecordedCall[] => readGolden(`server-${file}`);

async function startScene(overrides: Partial<ServerSettings>): Promise<Scene> {
  const adminIds = [makeSpiffeId(trustDomain, configuredAdmin)];
  const node = await createGoldenNode();
  const nodeAttestors = [{ type: "join_token" } as const, node.attestor];
  const running = await startTestServer({ adminIds, nodeAttestors, ...overrides });
  node.remove();
  const callers = new Map([
    ["server-local-uds", running.local],
    ["tls-without-client-cert", running.anonymous],
  ]);
  return { running, node, callers, before: async (call) => node.rebuild(call), after() {} };
}

const payloadOf = ({ request }: RecordedCall): string => {
  const first: unknown = Array.isArray(request) ? request[0] : undefined;
  return Buffer.from(Object(first).params?.data?.payload ?? "", "base64").toString();
};

/** Attestation: tokens are made just before the case that shows them. */
export async function startAttestationScene(overrides: Partial<ServerSettings> = {}): Promise<Scene> {
  const scene = await startScene(overrides);
  const { registry } = scene.running.server;
  const withToken = ["join-token-ok", "bad-csr", "csr-with-uri-and-dns", "csr-bad-signature"];
  return {
    ...scene,
    async before(call) {
      const token = payloadOf(call);
      if (withToken.includes(call.name)) await registry.createJoinToken({ token, ttlSeconds: 600 });
      if (call.name === "join-token-expired") {
        await registry.createJoinToken({ token, ttlSeconds: 1 });
        scene.running.clock.putForward(2_500);
      }
      if (call.name === "join-token-with-agent-id") {
        const { createJoinToken } = registry;
        await createJoinToken({ token, ttlSeconds: 600, agentId: scene.running.idOf("/alias") });
      }
      return scene.before(call);
    },
  };
}

/** Everything else: agents, workloads, an admin and a downstream server, with the entries that make them so. */
export async function startMainScene(overrides: Partial<ServerSettings> = {}): Promise<Scene> {
  const scene = await startScene(overrides);
  const { running, callers } = scene;
  const { registry } = running.server;
  for (const name of ["other.test", "fw.test"].map(parseTrustDomain)) {
    await registry.mutateBundle(name, () => emptyBundle(name));
  }
  const attest = async (token: string) => {
    await registry.createJoinToken({ token, ttlSeconds: 600 });
    return running.attest(token);
  };
  const agent = await attest(tokens.agent);
  const banned = await attest(tokens.banned);
  const evicted = await attest(tokens.evicted);
  const parentId = idMessage(`/spire/agent/join_token/${tokens.agent}`);
  await createEntries(running, [
    { id: "svid-e1", parentId, spiffeId: idMessage("/s1") },
    { id: "svid-ds", parentId, spiffeId: idMessage("/downstream"), downstream: true },
    { id: "svid-jti", parentId, spiffeId: idMessage("/s3"), additionalAttributes: withJti },
    { id: "svid-other", parentId: idMessage("/spire/agent/x/y"), spiffeId: idMessage("/s2") },
    { id: "an-admin", parentId, spiffeId: idMessage("/admin"), admin: true },
  ]);
  callers.set("agent", agent.channel).set("agent (old cert)", agent.channel);
  callers.set("agent (later banned)", banned.channel).set("agent (banned)", banned.channel);
  callers.set("agent (evicted)", evicted.channel);
  callers.set("self-signed-client-cert", running.dial(await foreignIdentity(undefined)));
  callers.set("spiffe-id-of-agent-signed-by-foreign-ca", running.dial(await foreignIdentity(agent.id)));
  await registry.createJoinToken({ token: "custom-token", ttlSeconds: 600 });
  callers.set("workload-svid", running.dial(await running.mint("/workload")));
  callers.set("admin-entry-svid", running.dial(await running.mint("/admin")));
  callers.set("downstream-svid", running.dial(await running.mint("/downstream")));

  let renewalKey: LocalKey | undefined;
  return {
    ...scene,
    async before(call) {
      if (call.name === "delete-restrict") {
        await createEntries(running, [
          { parentId, spiffeId: idMessage("/fed"), federatesWith: ["fed.test"] },
        ]);
      }
      if (call.name === "banned-x509pop-reattests") await addBannedNode(scene);
      if (call.name !== "renew-ok") return scene.before(call);
      renewalKey = await generateKey("ec-p256");
      return { ...call, request: { params: { csr: (await csrOf(renewalKey)).toString("base64") } } };
    },
    after({ name }, { response }) {
      if (name !== "renew-ok" || !renewalKey) return;
      const certificates: string[] = Object(response).svid?.certChain ?? [];
      const chain = certificates.map((text) => Buffer.from(text, "base64"));
      callers.set("agent (renewed cert)", running.dial({ chain, privateKey: renewalKey.privateKey }));
    },
  };
}

/** The recorded node was an agent, and banned. */
async function addBannedNode({ running, node }: Scene): Promise<void> {
  const id = running.idOf(node.agentPath);
  await running.server.registry.store.nodes.put({
    id,
    attestationType: "x509pop",
    serialNumber: "",
    expiresAt: unixSeconds(systemClock) + 600,
    newSerialNumber: "",
    newExpiresAt: 0,
    canReattest: true,
    agentVersion: "",
    selectors: [],
  });
}

/** What another CA signed for the ID; its own certificate without one. */
async function foreignIdentity(id: SpiffeId | undefined): Promise<TlsIdentity> {
  const key = await generateKey("ec-p256");
  const now = unixSeconds(systemClock);
  const ca = await issueSelfSignedCa({ key, trustDomain, ttlSeconds: 3600 }, now);
  if (!id) return { chain: [ca.der], privateKey: key.privateKey };
  const agentKey = await generateKey("ec-p256");
  const issuer = createIssuer(key, ca.der, []);
  const publicKeyInfo = exportPublicKeyInfo(agentKey.publicKey);
  const svid = await issueAgentSvid(issuer, { spiffeId: id, publicKeyInfo, ttlSeconds: 600 }, now);
  return { chain: [svid.der], privateKey: agentKey.privateKey };
}

const withJti = { disableX509SvidPrefetch: false, jwtSvidIncludeJti: true };

async function createEntries(
  { local }: TestServer,
  entries: readonly Parameters<typeof entryMessage>[0][],
): Promise<void> {
  const client = local.client(EntryService);
  await client.batchCreateEntry({ entries: entries.map(entryMessage), outputMask: undefined });
}

/** Of the callers in the matrix, the one whom the configuration names. */
export const configuredAdmin = "/admin-by-configuration";

export const attestationFiles = ["attest-agent"];
export const otherFiles = [
  "entry-create",
  "entry-read",
  "entry-update-delete",
  "svid",
  "authorized-entries",
  "authorization",
  "agent",
  "bundle",
  "trustdomain",
  "logger-localauthority-debug",
];

/** A row of the matrix of who may call what. */
export interface RecordedMatrixRow {
  readonly service: string;
  readonly method: string;
  readonly request: RecordedCall["request"];
  /** By caller; "skipped" where the call would have changed state. */
  readonly results: Readonly<Record<string, "skipped" | { readonly code: string; readonly message: string }>>;
}
