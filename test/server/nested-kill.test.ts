/** A nested server that is killed when its CA is signed but not yet in its journal starts again by itself. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { systemClock } from "../../src/core/clock.ts";
import { exportPkcs8, exportPublicKeyInfo, generateKey } from "../../src/core/keys.ts";
import { nullLogger } from "../../src/core/log.ts";
import { makeSpiffeId } from "../../src/core/spiffe-id.ts";
import { concatDer } from "../../src/core/trust-bundle.ts";
import { dialUnix } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import { type Listener, listenTls, listenUnix } from "../../src/rpc/listen.ts";
import { bindService } from "../../src/rpc/service.ts";
import { toBundleMessage, toKeyMessage } from "../../src/server/api/convert-bundle.ts";
import { createServerTls } from "../../src/server/callers.ts";
import { createServerIdentity, type ServerIdentity } from "../../src/server/identity.ts";
import { type TemporaryFolder, temporaryFolder } from "../interop/folders.ts";
import { createUpperServer, type UpperServer } from "../upstream/upper-server.ts";
import { trustDomain } from "./running.ts";

const longMs = 60_000;
const main = join(import.meta.dir, "../../src/main.ts");

let folder: TemporaryFolder;
let upper: UpperServer;
let identity: ServerIdentity;
let listeners: readonly Listener[];
/** Called when the nested server has its CA and asks for the roots. */
let onSigned = () => {};
beforeAll(async () => {
  folder = await temporaryFolder();
  // A real program lives in the present.
  upper = await createUpperServer(Math.floor(Date.now() / 1000));
  const { authority, fixture, server } = upper;
  const { registry } = fixture;
  const common = { clock: systemClock, log: nullLogger };
  identity = await createServerIdentity({ authority, keyType: "ec-p256", ...common });
  const services = [
    bindService(SVIDService, {
      async newDownstreamX509Ca({ csr, preferredTtl }) {
        const chain = await server.newDownstreamCa(csr, preferredTtl);
        return { caCertChain: chain.map((der) => Buffer.from(der)), x509Authorities: [] };
      },
    }),
    bindService(BundleService, {
      async getBundle() {
        onSigned();
        return toBundleMessage(upper.bundle());
      },
      async publishJwtAuthority({ jwtAuthority }) {
        const { publicKey = Buffer.alloc(0), keyId = "", expiresAt = 0 } = jwtAuthority ?? {};
        const key = { publicKey, keyId, expiresAt, tainted: false };
        const keys = await server.publishJwtKey(key, new AbortController().signal);
        return { jwtAuthorities: keys.map(toKeyMessage) };
      },
    }),
  ];
  const key = await generateKey("ec-p256");
  const id = makeSpiffeId(trustDomain, "/nested");
  const publicKeyInfo = exportPublicKeyInfo(key.publicKey);
  const { chain } = await authority.signWorkloadSvid({
    spiffeId: id,
    publicKeyInfo,
    dnsNames: [],
    ttlSeconds: 0,
  });
  const svid = {
    spiffeId: id,
    x509Svid: Buffer.concat(chain),
    x509SvidKey: Buffer.from(exportPkcs8(key)),
    bundle: Buffer.from(concatDer(upper.bundle())),
    hint: "",
  };
  const workloadApi = bindService(SpiffeWorkloadAPIService, {
    async *fetchX509Svid(_, { signal }) {
      yield { svids: [svid], crl: [], federatedBundles: {} };
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    },
  });
  const tls = createServerTls({ registry, identity, adminIds: [], requirePqKem: false, clock: systemClock });
  listeners = await Promise.all([
    listenTls({ services, host: "127.0.0.1", port: 0, tls, ...common }),
    listenUnix({ services: [workloadApi], path: join(folder.path, "agent.sock"), mode: 0o600, ...common }),
  ]);
  const port = listeners[0]?.address.split(":").at(-1);
  await Bun.write(join(folder.path, "server.conf"), configuration(folder.path, port ?? ""));
}, longMs);
afterAll(async () => {
  for (const listener of listeners ?? []) await listener.close(0);
  await identity?.stop();
  await upper?.close();
  await folder?.[Symbol.asyncDispose]();
}, longMs);

const configuration = (directory: string, port: string): string => `
server {
  trust_domain = "example.org"
  data_dir = "${directory}/data"
  bind_address = "127.0.0.1"
  bind_port = 0
  socket_path = "${directory}/private/api.sock"
}
plugins {
  DataStore "sql" { plugin_data {
    database_type = "sqlite3"
    connection_string = "${directory}/data/datastore.sqlite3"
  } }
  KeyManager "disk" { plugin_data { keys_path = "${directory}/data/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
  UpstreamAuthority "spire" { plugin_data {
    server_address = "127.0.0.1"
    server_port = ${port}
    workload_api_socket = "${directory}/agent.sock"
  } }
}
`;

function startNested() {
  const command = [process.execPath, main, "server", "run", "-config", join(folder.path, "server.conf")];
  return Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
}

test(
  "after the kill it has a CA of its own, and what it publishes holds upstream",
  async () => {
    const dying = startNested();
    onSigned = () => dying.kill("SIGKILL");
    await dying.exited;
    expect(dying.signalCode).toBe("SIGKILL");
    onSigned = () => {};

    const child = startNested();
    const started = Promise.withResolvers<void>();
    // Read to its end: a program whose log nobody takes any more ends.
    const read = async () => {
      for await (const chunk of child.stdout) {
        if (Buffer.from(chunk).includes("Starting Server APIs")) started.resolve();
      }
      started.reject(new Error("the server ended before it served"));
    };
    void read();
    await started.promise;
    const channel = dialUnix(join(folder.path, "private", "api.sock"));
    const { active } = await channel.client(LocalAuthorityService).getX509AuthorityState({});
    const bundle = await channel.client(BundleService).getBundle({ outputMask: undefined });
    channel.close();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(active?.upstreamAuthoritySubjectKeyId).toBe(
      upper.authority.state("x509", "active")?.authorityId ?? "",
    );
    expect(bundle.x509Authorities.map(({ asn1 }) => asn1)).toEqual(
      upper.bundle().x509Authorities.map(({ der }) => Buffer.from(der)),
    );
    const published = new Set(upper.bundle().jwtAuthorities.map(({ keyId }) => keyId));
    expect(bundle.jwtAuthorities.filter(({ keyId }) => !published.has(keyId))).toEqual([]);
  },
  longMs,
);
