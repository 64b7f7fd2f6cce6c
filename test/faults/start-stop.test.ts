/** Starts and ends under odd circumstances: impatient supervisors, sockets with short names. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { createWorld, stop, type World } from "./world.ts";

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

test("signals that follow the first one cut nothing short", async () => {
  for (let round = 0; round < 5; round++) {
    const server = world.server();
    await server.ready();
    for (const signal of ["SIGTERM", "SIGTERM", "SIGINT"] as const) server.kill(signal);
    expect(await server.ended).toBe(0);
    expect(await server.out.all()).toContain("Server stopped gracefully");
    // The database was closed: nothing of it is left in a log.
    expect(readdirSync(server.dataDir).sort()).toEqual([
      "datastore.sqlite3",
      "datastore.sqlite3.sha256",
      "keys.json",
    ]);
    expect(existsSync(server.socket)).toBe(false);
  }
});

test("a socket of one letter in the folder where it was started is a socket each time", async () => {
  for (let round = 0; round < 8; round++) {
    const port = ["-bindAddress", "127.0.0.1", "-serverPort", "0"];
    const args = ["-trustDomain", "example.org", "-dataDir", "data", "-socketPath", "s", ...port];
    const server = world.spire("server", "run", ...args);
    await server.out.next((line) => line.includes("Starting Server APIs"));
    const health = world.spire("server", "healthcheck", "-socketPath", "s");
    expect(await health.ended).toBe(0);
    await stop(server);
  }
});
