/** Against a real datagram socket, as systemd has it. */
import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenForNotifications as listen } from "../../test/process/notify-socket.ts";
import { createManualClock } from "../core/clock.ts";
import { nullLogger } from "../core/log.ts";
import { createRecordingLogger } from "../rpc/testing.ts";
import { connectServiceManager } from "./systemd.ts";

const folder = mkdtempSync(join(tmpdir(), "notify-"));
let close: () => void = () => {};
afterEach(() => close());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function setUp(address: string, env: Record<string, string> = {}) {
  const clock = createManualClock(0);
  const manager = await connectServiceManager({
    env: { NOTIFY_SOCKET: address, ...env },
    pid: 42,
    clock,
    log: nullLogger,
  });
  return { clock, manager };
}

describe.each([
  ["a path", join(folder, "notify.sock")],
  ["an abstract name", `@spire-notify-${process.pid}`],
])("at %s", (_what, address) => {
  test("start, reload and end are told", async () => {
    const socket = listen(address);
    close = () => {
      socket.close();
      rmSync(address, { force: true });
    };
    const { manager } = await setUp(address);
    manager.ready("Serving\nat 127.0.0.1:8081");
    expect(socket.received()).toEqual(["READY=1\nSTATUS=Serving at 127.0.0.1:8081"]);
    await manager.reloading(async () => {
      expect(socket.received()).toEqual([
        expect.stringMatching(/^RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=Reloading$/),
      ]);
    });
    expect(socket.received()).toEqual(["READY=1\nSTATUS=Serving at 127.0.0.1:8081"]);
    manager.stopping();
    expect(socket.received()).toEqual(["STOPPING=1\nSTATUS=Stopping"]);
    await manager.close();
  });
});

describe("the watchdog", () => {
  const address = `@spire-watchdog-${process.pid}`;

  async function count(env: Record<string, string>) {
    const socket = listen(address);
    close = socket.close;
    const { manager, clock } = await setUp(address, env);
    await clock.advance(60_000);
    expect(socket.received()).toEqual([]);
    manager.ready("");
    socket.received();
    await clock.advance(60_000);
    const fed = socket.received();
    await manager.close();
    await clock.advance(60_000);
    expect(socket.received()).toEqual([]);
    expect(new Set(fed)).toEqual(new Set(fed.length > 0 ? ["WATCHDOG=1"] : []));
    return fed.length;
  }

  test("is fed twice within its time, from the start on to the end", async () => {
    expect(await count({ WATCHDOG_USEC: "20000000", WATCHDOG_PID: "42" })).toBeWithin(6, 8);
    close();
    expect(await count({ WATCHDOG_USEC: "20000000" })).toBeWithin(6, 8);
  });

  test.each([
    ["when there is none", {}],
    ["of another process", { WATCHDOG_USEC: "20000000", WATCHDOG_PID: "43" }],
    ["without a time", { WATCHDOG_USEC: "0" }],
    ["with a time that is none", { WATCHDOG_USEC: "soon" }],
  ])("is left alone %s", async (_what, env) => {
    expect(await count(env)).toBe(0);
  });
});

test("nobody is told when nobody asked, and a socket that isn't there is no failure", async () => {
  const log = createRecordingLogger();
  const clock = createManualClock(0);
  for (const env of [{}, { NOTIFY_SOCKET: join(folder, "nobody.sock") }, { NOTIFY_SOCKET: "vsock:2:9" }]) {
    const manager = await connectServiceManager({ env, pid: 42, clock, log });
    manager.ready("");
    await manager.reloading(async () => {});
    manager.stopping();
    await manager.close();
  }
  expect(log.lines.map(({ level }) => level)).toEqual(["debug", "debug", "debug", "debug", "warning"]);
});
