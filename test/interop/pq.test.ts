/** Go's TLS client at a server with require_pq_kem, and at one without. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { ServerSettings } from "../../src/modes/server/settings.ts";
import { startTestServer, type TestServer } from "../server/running.ts";
import { runForJson } from "./processes.ts";
import { buildGo } from "./toolchains.ts";

let client: string;
const servers: TestServer[] = [];
beforeAll(async () => {
  client = await buildGo("test/interop/pq", "pq");
}, 300_000);
afterAll(async () => {
  for (const server of servers) await server.close();
});

async function start(overrides: Partial<ServerSettings>): Promise<readonly string[]> {
  const federation = { bundleEndpoint: { address: "127.0.0.1", port: 0 }, federatesWith: [] };
  const running = await startTestServer({ federation, ...overrides });
  servers.push(running);
  return [running.server.address, running.server.bundleEndpointAddress ?? ""];
}

test("require_pq_kem leaves post-quantum key exchange only, at the API and at the bundle endpoint", async () => {
  for (const address of await start({ requirePqKem: true })) {
    expect(await runForJson([client, address])).toEqual({
      "Go's own choice": "X25519MLKEM768",
      X25519MLKEM768: "X25519MLKEM768",
      X25519: "refused",
      "P-256": "refused",
      "TLS 1.2": "refused",
    });
  }
});

test("without it, the others are taken as well", async () => {
  for (const address of await start({})) {
    expect(await runForJson([client, address])).toMatchObject({
      X25519: "X25519",
      "P-256": "CurveP256",
      "TLS 1.2": expect.not.stringContaining("refused"),
    });
  }
});
