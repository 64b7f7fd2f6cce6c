/** Clients that would use up the server's descriptors: the others are served, and what was refused comes back. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { systemClock } from "../../src/core/clock.ts";
import { serverId } from "../../src/core/spiffe-id.ts";
import { dialTls } from "../../src/rpc/dial.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { createWorld, exampleOrg, type ServerProcess, stop, type World } from "./world.ts";

const most = 200;

let world: World;
let server: ServerProcess;
let port: number;
let sockets: Socket[];
beforeEach(async () => {
  world = createWorld();
  sockets = [];
  server = world.server("server", { wrap: ["prlimit", `--nofile=${most}:${most}`] });
  port = await server.ready();
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await world.close();
});

async function open(where: NetConnectOpts): Promise<Socket> {
  const socket = connect(where);
  sockets.push(socket);
  socket.on("error", () => {});
  socket.resume();
  await Promise.race([once(socket, "connect"), once(socket, "close")]);
  return socket;
}

async function expectServed(): Promise<void> {
  const channel = dialTls({
    address: `127.0.0.1:${port}`,
    bundle: () => undefined,
    serverId: serverId(exampleOrg),
    clock: systemClock,
  });
  const bundle = await channel.client(BundleService).getBundle({ outputMask: undefined });
  expect(bundle.trustDomain).toBe(exampleOrg);
  channel.close();
}

test("more silent connections than there are descriptors: new clients are served all the while", async () => {
  for (let round = 0; round < 5; round++) {
    await Promise.all(Array.from({ length: most }, () => open({ port, host: "127.0.0.1" })));
    await expectServed();
  }
  await stop(server);
});

test("when none is left, accepting goes on as soon as there are some again", async () => {
  await Promise.all(Array.from({ length: 2 * most }, () => open({ path: server.socket })));
  for (const socket of sockets) socket.destroy();
  await expectServed();
  const health = world.spire("server", "healthcheck", "-socketPath", server.socket);
  expect(await health.ended).toBe(0);
  await stop(server);
});
