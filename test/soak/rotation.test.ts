/**
 * Two go-spiffe workloads talk by mTLS while the authorities of their trust domain rotate. `npm test` sees one rotation;
 * `npm run soak -- rotation` goes on for half an hour.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { fetchBundle } from "../faults/soundness.ts";
import { agentPathOf, createToken, createWorld, grant, stop, type World } from "../faults/world.ts";
import { executable } from "../interop/dev.ts";
import { type Child, runForJson, startChild } from "../interop/processes.ts";
import type { JwtSvid } from "../interop/svids.ts";
import { buildGo, copyProgram } from "../interop/toolchains.ts";

const minutes = Number(process.env["SPIRE_SOAK_MINUTES"] ?? 0);
const caTtlSeconds = minutes > 0 ? 180 : 120;
/** As long as rotation never has to cut it short. */
const svidTtlSeconds = caTtlSeconds / 6;
/** Each authority signs from the last sixth of its predecessor's life to its own; 10 s may pass until it is noticed. */
const rotations = Math.max(1, Math.floor((minutes * 60) / ((caTtlSeconds * 5) / 6 + 10)));

const id = (name: string) => `spiffe://example.org/${name}`;

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

test(
  "no handshake fails while authorities rotate",
  async () => {
    const peer = await buildGo("test/interop/go", "go-peer");
    const client = await copyProgram(peer, "go-soak-client");
    const service = await copyProgram(peer, "go-soak-service");
    const server = await startServer();
    const admin = world.dial(server.socket);
    const token = await createToken(admin);
    for (const [path, program] of [["/client", client] as const, ["/service", service] as const]) {
      await grant(admin, agentPathOf(token), path, { selectors: [executable(program)] });
    }
    const agent = await startAgent(server, token);
    const environment = { SPIFFE_ENDPOINT_SOCKET: `unix://${agent.socket}` };

    await using serving = startChild([service, "serve", id("client")], environment);
    const address = String(await serving.next());
    const served = countLines(serving);
    await using traffic = startChild([client, "traffic", address, id("service")], environment);
    const totals = await watch(traffic, async () => {
      const [svid] = (await runForJson([client, "jwt", "audience"], environment)) as JwtSvid[];
      expect(svid?.validated_by).toEqual({ api: id("client"), bundle: id("client") });
    });

    expect(totals.authorities.length).toBeGreaterThan(rotations);
    expect((await fetchBundle(admin)).x509Authorities.length).toBeGreaterThan(1);
    traffic.kill();
    await traffic.exited;
    serving.kill();
    expect(await served).toBeGreaterThanOrEqual(totals.handshakes);
    expect(serving.stderr()).toBe("");
    await stop(agent);
    await stop(server);
  },
  { timeout: (minutes + 10) * 60_000 },
);

/** What the client of the traffic has seen so far. */
interface Totals {
  readonly handshakes: number;
  readonly failures: readonly string[];
  /** Key identifiers of the authorities whose SVIDs the service showed. */
  readonly authorities: readonly string[];
  readonly svids: number;
}

/** Follows the traffic until enough time has passed and enough authorities were seen; `besides` runs every second. */
async function watch(traffic: Child, besides: () => Promise<void>): Promise<Totals> {
  const end = Date.now() + Math.max(minutes * 60, caTtlSeconds) * 1_000;
  for (let seconds = 0; ; seconds++) {
    const totals = (await traffic.next()) as Totals;
    expect(totals.failures).toEqual([]);
    await besides();
    const isOver = Date.now() >= end && totals.authorities.length > 1;
    if (isOver || seconds % 60 === 0) {
      const { handshakes, svids, authorities } = totals;
      console.log(
        `${handshakes} handshakes, none failed; SVIDs: ${svids}, of ${authorities.length} authorities`,
      );
    }
    if (isOver) return totals;
  }
}

async function countLines(child: Child): Promise<number> {
  for (let count = 0; ; count++) {
    try {
      await child.next();
    } catch {
      return count;
    }
  }
}

async function startServer() {
  const dataDir = world.path("server");
  const socket = world.path("server.sock");
  const file = world.path("server.conf");
  writeFileSync(
    file,
    `server {
      bind_address = "127.0.0.1"
      bind_port = 0
      socket_path = "${socket}"
      trust_domain = "example.org"
      data_dir = "${dataDir}"
      ca_ttl = "${caTtlSeconds}s"
      default_x509_svid_ttl = "${svidTtlSeconds}s"
      default_jwt_svid_ttl = "${svidTtlSeconds}s"
    }
    plugins {
      DataStore "sql" {
        plugin_data {
          database_type = "sqlite3"
          connection_string = "${dataDir}/datastore.sqlite3"
        }
      }
      KeyManager "disk" {
        plugin_data { keys_path = "${dataDir}/keys.json" }
      }
      NodeAttestor "join_token" {
        plugin_data {}
      }
    }`,
  );
  const running = world.spire("server", "run", "-config", file);
  const line = await running.out.next((text) => text.includes("Starting Server APIs"));
  return { ...running, socket, port: Number(/127\.0\.0\.1:(\d+)/.exec(line)?.[1]) };
}

async function startAgent(server: { readonly socket: string; readonly port: number }, token: string) {
  const bundle = world.path("bundle.pem");
  const shown = world.spire("server", "bundle", "show", "-socketPath", server.socket);
  writeFileSync(bundle, await shown.out.all());
  const socket = world.path("agent.sock");
  const file = world.path("agent.conf");
  writeFileSync(
    file,
    `agent {
      trust_domain = "example.org"
      server_address = "127.0.0.1"
      server_port = ${server.port}
      socket_path = "${socket}"
      data_dir = "${world.path("agent")}"
      trust_bundle_path = "${bundle}"
      join_token = "${token}"
    }
    plugins {
      KeyManager "memory" {
        plugin_data {}
      }
      NodeAttestor "join_token" {
        plugin_data {}
      }
      WorkloadAttestor "unix" {
        plugin_data { discover_workload_path = true }
      }
    }`,
  );
  const agent = world.spire("agent", "run", "-config", file);
  await agent.out.next((text) => /SVID (loaded|is not found)/.test(text));
  return { ...agent, socket };
}
