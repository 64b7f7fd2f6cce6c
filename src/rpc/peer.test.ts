import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync } from "node:fs";
import { connect, createServer, type Server, Socket } from "node:net";
import { SpireError } from "../core/errors.ts";
import { createPeerReader, type PeerHandle } from "./peer.ts";
import { createGate, createWorkspace, type Workspace } from "./testing.ts";

let workspace: Workspace;
let path: string;
let server: Server;
let children: ChildProcess[];

beforeEach(() => {
  workspace = createWorkspace();
  chmodSync(workspace.path, 0o755);
  path = workspace.file("s");
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  server?.close();
  workspace.remove();
});

/** Listens; each connection is read when it comes in. */
async function listen(options?: { pidfd: boolean }) {
  const reader = createPeerReader(options);
  const peers: PeerHandle[] = [];
  let arrived = createGate<PeerHandle>();
  server = createServer((socket) => {
    socket.on("error", () => {});
    const peer = reader.read(socket);
    peers.push(peer);
    arrived.resolve(peer);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(path, 0o777);
  return {
    nextPeer() {
      arrived = createGate();
      return arrived.promise;
    },
  };
}

const connecting = (then: string): string =>
  `const s = require("node:net").connect(${JSON.stringify(path)}, () => { ${then} });`;

function run(script: string, prefix: readonly string[] = []): ChildProcess {
  const [command = "", ...args] = [...prefix, process.execPath, "-e", script];
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
  children.push(child);
  return child;
}

const exited = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => child.once("exit", () => resolve()));

for (const pidfd of [true, false]) {
  describe(pidfd ? "with a pidfd" : "with the start time", () => {
    test("a peer is known by PID, user and group while it lives, and gone when it has ended", async () => {
      const { nextPeer } = await listen({ pidfd });
      const arriving = nextPeer();
      const child = run(connecting(""));
      const peer = await arriving;
      expect(peer).toMatchObject({ pid: child.pid, uid: process.getuid?.(), gid: process.getgid?.() });
      expect(peer.isAlive()).toBe(true);
      const end = exited(child);
      child.kill("SIGKILL");
      await end;
      expect(peer.isAlive()).toBe(false);
      peer.release();
      peer.release();
    });

    test("a connection that another process inherited doesn't keep its opener alive", async () => {
      const { nextPeer } = await listen({ pidfd });
      const arriving = nextPeer();
      const heir = workspace.file("heir");
      // Hands its connection to a process of its own and goes; that one says who it is.
      const child = run(
        connecting(`
          const stdio = ["ignore", "ignore", "ignore", s._handle.fd];
          const heir = require("node:child_process").spawn("sleep", ["1000"], { stdio, detached: true });
          require("node:fs").writeFileSync(${JSON.stringify(heir)}, String(heir.pid));
          process.exit();`),
      );
      const peer = await arriving;
      await exited(child);
      const heirPid = Number(await Bun.file(heir).text());
      try {
        expect(peer.pid).toBe(child.pid ?? 0);
        expect(() => process.kill(heirPid, 0)).not.toThrow();
        expect(peer.isAlive()).toBe(false);
      } finally {
        process.kill(heirPid, "SIGKILL");
      }
    });

    test("after its release a peer counts as gone", async () => {
      const { nextPeer } = await listen({ pidfd });
      const arriving = nextPeer();
      run(connecting(""));
      const peer = await arriving;
      peer.release();
      expect(peer.isAlive()).toBe(false);
    });
  });
}

test.skipIf(process.getuid?.() !== 0)("another user is seen as that user", async () => {
  const { nextPeer } = await listen();
  const arriving = nextPeer();
  run(`process.setgid(23456); process.setuid(12345); ${connecting("")}`);
  expect(await arriving).toMatchObject({ uid: 12_345, gid: 23_456 });
});

/** A container without CAP_SYS_ADMIN may not make one. */
const canMakePidNamespace = spawnSync("unshare", ["--pid", "--fork", "true"]).status === 0;

test.skipIf(!canMakePidNamespace)("a process outside of the reader's PID namespace is refused", async () => {
  const answer = workspace.file("answer");
  const ready = workspace.file("ready");
  const inside = run(
    `
    import { writeFileSync } from "node:fs";
    import { createServer } from "node:net";
    import { createPeerReader } from ${JSON.stringify(`${import.meta.dir}/peer.ts`)};
    const reader = createPeerReader();
    const judge = (socket) => {
      try {
        reader.read(socket);
        return "accepted";
      } catch (error) {
        return error.code;
      }
    };
    createServer((socket) => {
      writeFileSync(${JSON.stringify(answer)}, judge(socket));
      socket.end();
    }).listen(${JSON.stringify(path)}, () => writeFileSync(${JSON.stringify(ready)}, ""));`,
    ["unshare", "--pid", "--fork", "--kill-child"],
  );
  while (!(await Bun.file(ready).exists())) {
    if (inside.exitCode !== null) throw new Error("unshare failed");
    await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise<void>((resolve) =>
    connect(path)
      .resume()
      .on("close", () => resolve()),
  );
  expect(await Bun.file(answer).text()).toBe("PERMISSION_DENIED");
});

test("a socket without a descriptor where this runtime keeps it is an error, not a guess", () => {
  const reader = createPeerReader();
  const error = (() => {
    try {
      reader.read(new Socket());
    } catch (caught) {
      return SpireError.from(caught);
    }
    return undefined;
  })();
  expect(error).toMatchObject({ code: "INTERNAL", message: expect.stringContaining("descriptor") });
});
