/**
 * The recorded calls of a stock server, replayed in their order: codes, messages and statuses of items. What
 * differs on purpose is listed with its reason; a message that quotes Go's libraries is compared up to the quote.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock, unixSeconds } from "../../src/core/clock.ts";
import { exportPublicKeyInfo, generateKey, type LocalKey } from "../../src/core/keys.ts";
import { makeSpiffeId, parseTrustDomain, type SpiffeId } from "../../src/core/spiffe-id.ts";
import { emptyBundle } from "../../src/core/trust-bundle.ts";
import { createIssuer, issueAgentSvid, issueSelfSignedCa } from "../../src/core/x509/issue.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { TlsIdentity } from "../../src/rpc/tls.ts";
import {
  type CallReplayer,
  createCallReplayer,
  type Outcome,
  type RecordedCall,
  type Replayed,
  statusesOf,
} from "./golden-calls.ts";
import { differences, notYet } from "./golden-differences.ts";
import { csrOf, entryMessage, idMessage, startTestServer, type TestServer, trustDomain } from "./running.ts";

/** What callers have to be able to do before the first case; each scene has a server of its own. */
interface Scene {
  readonly running: TestServer;
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
const readGolden = (file: string) => JSON.parse(readFileSync(join(goldenFolder, `${file}.json`), "utf8"));
const recorded = (file: string): readonly RecordedCall[] => readGolden(`server-${file}`);

let replayer: CallReplayer;
beforeAll(async () => {
  replayer = await createCallReplayer();
});

async function startScene(): Promise<Scene> {
  const adminIds = [makeSpiffeId(trustDomain, configuredAdmin)];
  const running = await startTestServer({ adminIds });
  const callers = new Map([
    ["server-local-uds", running.local],
    ["tls-without-client-cert", running.anonymous],
  ]);
  return { running, callers, before: async (call) => call, after() {} };
}

const payloadOf = ({ request }: RecordedCall): string => {
  const first: unknown = Array.isArray(request) ? request[0] : undefined;
  return Buffer.from(Object(first).params?.data?.payload ?? "", "base64").toString();
};

/** Attestation: tokens are made just before the case that shows them. */
async function startAttestationScene(): Promise<Scene> {
  const scene = await startScene();
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
      return call;
    },
  };
}

/** Everything else: agents, workloads, an admin and a downstream server, with the entries that make them so. */
async function startMainScene(): Promise<Scene> {
  const scene = await startScene();
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
      if (call.name !== "renew-ok") return call;
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
const configuredAdmin = "/admin-by-configuration";

/** Texts of Go's libraries; what stands before them is SPIRE's own. */
const libraryText = /(asn1:|x509:|go-jose|strconv|idna|datastore-sql: UNIQUE constraint|proto:).*$/s;

/** A message that a client's library made says nothing about the server. */
const clientText = (code: string): boolean => code === "UNAVAILABLE";

const upToQuote = (expected: string, actual: string): [string, string] => {
  const quote = libraryText.exec(expected);
  return quote ? [expected.slice(0, quote.index), actual.slice(0, quote.index)] : [expected, actual];
};

function compare(actual: Outcome, expected: Outcome): void {
  const [expectedMessage, message] = clientText(expected.code)
    ? ["", ""]
    : upToQuote(expected.message, actual.message);
  const pairs = expected.statuses.map((status, index) => {
    const answered = actual.statuses[index] ?? { code: -1, message: "" };
    const [wanted, given] = upToQuote(status.message, answered.message);
    return { wanted: { ...status, message: wanted }, given: { ...answered, message: given } };
  });
  expect({ code: actual.code, message, statuses: pairs.map(({ given }) => given) }).toEqual({
    code: expected.code,
    message: expectedMessage,
    statuses: pairs.map(({ wanted }) => wanted),
  });
  expect(actual.statuses).toHaveLength(expected.statuses.length);
}

const outcomeOf = ({ code, message, response }: RecordedCall): Outcome => ({
  code,
  message,
  statuses: statusesOf(response),
});

/** Whether a case needs what this server has not got. */
const waits = (name: string): boolean => notYet.some(({ cases }) => cases.test(name));

function replayFiles(start: () => Promise<Scene>, files: readonly string[]): void {
  let scene: Scene;
  beforeAll(async () => {
    scene = await start();
  });
  afterAll(() => scene.running.close());

  for (const file of files) {
    describe(file, () => {
      for (const call of recorded(file)) {
        const name = `${file}/${call.name}`;
        if (waits(name)) continue;
        test(call.name, async () => {
          const sent = await scene.before(call);
          const channel = scene.callers.get(call.caller);
          if (!channel) throw new Error(`there is no caller "${call.caller}" here`);
          const answer = await replayer.replay(sent, channel);
          scene.after(call, answer);
          compare(answer, differences[name]?.outcome ?? outcomeOf(call));
        });
      }
    });
  }
}

const attestationFiles = ["attest-agent"];
const otherFiles = [
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

describe("recorded calls: attestation", () => replayFiles(startAttestationScene, attestationFiles));

describe("recorded calls: the rest", () => replayFiles(startMainScene, otherFiles));

test("the recorded calls that wait for what the server has not got are few, and known", () => {
  const names = [...attestationFiles, ...otherFiles].flatMap((file) =>
    recorded(file).map(({ name }) => `${file}/${name}`),
  );
  expect(
    notYet.map(({ cases, needs }) => ({ needs, calls: names.filter((name) => cases.test(name)).length })),
  ).toEqual(notYet.map(({ needs, calls }) => ({ needs, calls })));
});

interface MatrixRow {
  readonly service: string;
  readonly method: string;
  readonly request: RecordedCall["request"];
  /** By caller; "skipped" where the call would have changed state. */
  readonly results: Readonly<Record<string, "skipped" | { readonly code: string; readonly message: string }>>;
}

describe("recorded calls: who may call what", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startMainScene();
    const { running, callers } = scene;
    callers.set("admin-ids-svid", running.dial(await running.mint(configuredAdmin)));
  });
  afterAll(() => scene.running.close());

  for (const row of readGolden("authz-matrix") as readonly MatrixRow[]) {
    const { service, method, request, results } = row;
    test(`${service}/${method}`, async () => {
      for (const [caller, result] of Object.entries(results)) {
        const channel = scene.callers.get(caller);
        if (!channel) throw new Error(`there is no caller "${caller}" here`);
        if (result === "skipped") continue;
        const { code, message } = await replayer.replay({ service, method, request }, channel);
        // No server implements health's List; the stock one says so in words of its own.
        const [wanted, given] = method === "List" ? ["", ""] : upToQuote(result.message, message);
        expect({ caller, code, message: given }).toEqual({ caller, code: result.code, message: wanted });
      }
    });
  }
});
