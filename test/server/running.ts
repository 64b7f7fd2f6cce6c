/** A real server in this process, on a temporary directory, with clients of every kind. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { exportPublicKeyInfo, generateKey, type LocalKey } from "../../src/core/keys.ts";
import { makeSpiffeId, parseTrustDomain, type SpiffeId, serverId } from "../../src/core/spiffe-id.ts";
import { createCertificateRequest } from "../../src/core/x509/csr.ts";
import { defaultServerSettings, type ServerSettings } from "../../src/modes/server/settings.ts";
import { type RunningServer, startServer } from "../../src/modes/server.ts";
import { type Channel, dialTls, dialUnix } from "../../src/rpc/dial.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Entry } from "../../src/rpc/gen/spire/api/types/entry.ts";
import type { X509SVID } from "../../src/rpc/gen/spire/api/types/x509svid.ts";
import type { Client } from "../../src/rpc/service.ts";
import type { TlsIdentity } from "../../src/rpc/tls.ts";
import { createLog } from "../../src/telemetry/logging.ts";

export const trustDomain = parseTrustDomain("example.org");
export const idMessage = (path: string) => ({ trustDomain, path });

/** The machine's clock, which a test can put forward. */
export interface AdjustableClock extends Clock {
  putForward(byMs: number): void;
}

export function createAdjustableClock(): AdjustableClock {
  let ahead = 0;
  return {
    now: () => systemClock.now() + ahead,
    after: systemClock.after,
    putForward(byMs) {
      ahead += byMs;
    },
  };
}

export interface TestAgent {
  readonly id: SpiffeId;
  readonly key: LocalKey;
  readonly identity: TlsIdentity;
  readonly channel: Channel;
}

/** A line of the log; all have `level` and `msg`. */
export type LogLine = Readonly<Record<string, unknown>>;

export interface TestServer {
  readonly server: RunningServer;
  readonly settings: ServerSettings;
  readonly clock: AdjustableClock;
  /** What was logged, at level debug and above. */
  readonly logLines: readonly LogLine[];
  /** Over the Unix socket. */
  readonly local: Channel;
  /** Over TLS without a certificate. */
  readonly anonymous: Channel;
  dial(identity: TlsIdentity): Channel;
  /** The SPIFFE ID of a path in the server's trust domain. */
  idOf(path: string): SpiffeId;
  /** Attests with a new join token, or with the one given. */
  attest(token?: string): Promise<TestAgent>;
  /** An SVID minted for a workload, admin or downstream server. */
  mint(path: string): Promise<TlsIdentity>;
  close(): Promise<void>;
}

/** Settings for a server below `directory`, on a free port, without rate limits. */
export const testSettings = (directory: string): ServerSettings => ({
  ...defaultServerSettings,
  trustDomain,
  bindAddress: "127.0.0.1",
  bindPort: 0,
  socketPath: join(directory, "private", "api.sock"),
  dataDir: directory,
  keyManager: { type: "disk", keysPath: join(directory, "keys.json") },
  dataStore: { type: "sqlite", path: join(directory, "datastore.sqlite3") },
  rateLimit: { attestation: false, signing: false },
});

export async function startTestServer(overrides: Partial<ServerSettings> = {}): Promise<TestServer> {
  const directory = mkdtempSync(join(tmpdir(), "spire-server-"));
  const settings = { ...testSettings(directory), ...overrides };
  const clock = createAdjustableClock();
  const logLines: LogLine[] = [];
  const { logger: log, ...logLevel } = createLog({
    level: "debug",
    format: "json",
    write: (line) => void logLines.push(JSON.parse(line)),
  });
  const server = await startServer(settings, { clock, log, logLevel });
  const channels: Channel[] = [];
  const opened = (channel: Channel): Channel => {
    channels.push(channel);
    return channel;
  };
  const target = {
    address: server.address,
    bundle: () => server.bundle(),
    serverId: serverId(trustDomain),
    clock,
  };
  const local = opened(dialUnix(server.socketPath));
  const anonymous = opened(dialTls(target));
  const dial = (identity: TlsIdentity) => opened(dialTls({ ...target, identity }));

  return {
    server,
    settings,
    clock,
    logLines,
    local,
    anonymous,
    dial,
    idOf: (path) => makeSpiffeId(trustDomain, path),
    async attest(given) {
      const token = given ?? (await server.registry.createJoinToken({ ttlSeconds: 600 })).token;
      const key = await generateKey("ec-p256");
      const svid = await attestWith(anonymous.client(AgentService), token, await csrOf(key));
      const identity = { chain: svid.certChain, privateKey: key.privateKey };
      const id = makeSpiffeId(trustDomain, svid.id?.path ?? "");
      return { id, key, identity, channel: dial(identity) };
    },
    async mint(path) {
      const key = await generateKey("ec-p256");
      const csr = await csrOf(key, makeSpiffeId(trustDomain, path));
      const { svid } = await local.client(SVIDService).mintX509Svid({ csr, ttl: 0 });
      return { chain: svid?.certChain ?? [], privateKey: key.privateKey };
    },
    async close() {
      for (const channel of channels) channel.close();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export const csrOf = async (key: LocalKey, uri?: SpiffeId): Promise<Buffer> =>
  Buffer.from(await createCertificateRequest({ key, ...(uri ? { uri } : {}) }));

/** The whole exchange of a join token. */
export async function attestWith(
  client: Client<AgentService>,
  token: string,
  csr: Buffer,
): Promise<X509SVID> {
  const conversation = client.attestAgent();
  const data = { type: "join_token", payload: Buffer.from(token) };
  await conversation.send({ step: { $case: "params", value: { data, params: { csr } } } });
  const answer = await conversation.receive();
  conversation.end();
  const result = answer?.step?.$case === "result" ? answer.step.value.svid : undefined;
  if (!result) throw new SpireError("INTERNAL", "no SVID in the answer");
  return result;
}

/** The CSR with its last byte changed, which is in its signature. */
export function withBadSignature(csr: Buffer): Buffer {
  const changed = Buffer.from(csr);
  changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1);
  return changed;
}

/** An entry as a message, with what a test doesn't care for left at its default. */
export const entryMessage = (fields: Partial<Entry>): Entry => ({
  id: "",
  spiffeId: idMessage("/web"),
  parentId: idMessage("/spire/agent/join_token/a"),
  selectors: [{ type: "unix", value: "uid:0" }],
  x509SvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  revisionNumber: 0,
  storeSvid: false,
  jwtSvidTtl: 0,
  hint: "",
  createdAt: 0,
  additionalAttributes: undefined,
  ...fields,
});

export const newPublicKeyInfo = async (): Promise<Uint8Array> =>
  exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
