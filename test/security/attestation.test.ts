/** Processes that try to be taken for others, on the real kernel. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  unlinkSync,
} from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createUnixAttestor } from "../../src/plugins/workload-attestors/unix.ts";
import { createPeerReader } from "../../src/rpc/peer.ts";

const { signal } = new AbortController();
let directory: string;
let children: ChildProcess[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-attestation-"));
  chmodSync(directory, 0o755);
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

/** A copy of sleep(1), with something of its own behind it. */
function program(name: string, tail = ""): string {
  const path = join(directory, name);
  copyFileSync("/bin/sleep", path);
  if (tail !== "") appendFileSync(path, tail);
  chmodSync(path, 0o755);
  return path;
}

/** Starts it and resolves once the kernel shows `shown` as its program. */
async function running(argv: readonly string[], shown: string): Promise<number> {
  const [file = "", ...args] = argv;
  const child = spawn(file, args, { stdio: "ignore" });
  children.push(child);
  const pid = child.pid ?? 0;
  while (programOf(pid) !== shown) {
    if (child.exitCode !== null) throw new Error(`${file} ended with ${child.exitCode}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return pid;
}

function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return "";
  }
}

/** Values of the selectors that name its program. */
async function programSelectors(pid: number): Promise<string[]> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const idOf = (key: string) => Number(new RegExp(`^${key}:\\s+\\d+\\s+(\\d+)`, "m").exec(status)?.[1]);
  const attestor = createUnixAttestor({ discoverWorkloadPath: true, workloadSizeLimit: 0 });
  const selectors = await attestor.attest({ pid, uid: idOf("Uid"), gid: idOf("Gid") }, signal);
  return selectors.map(({ value }) => value).filter((value) => /^(path|sha256):/.test(value));
}

const sha256Of = (path: string): string =>
  `sha256:${new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex")}`;

/** Not where sleep(1) is one of many programs in a single file, chosen by its name. */
const canCopy = (() => {
  const place = mkdtempSync(join(tmpdir(), "spire-copy-"));
  try {
    copyFileSync("/bin/sleep", join(place, "copy"));
    return spawnSync(join(place, "copy"), ["0"]).status === 0;
  } catch {
    return false;
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
})();

const asOther =
  process.getuid?.() === 0 ? ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"] : [];
const ownMounts = [...asOther, "unshare", "--user", "--map-root-user", "--mount"];
const canMount = spawnSync(ownMounts[0] ?? "", [...ownMounts.slice(1), "true"]).status === 0;

describe.skipIf(!canCopy)("the path of a program", () => {
  test("is told with its hash", async () => {
    const path = program("honest");
    const pid = await running([path, "60"], path);
    expect(await programSelectors(pid)).toEqual([`path:${path}`, sha256Of(path)]);
  });

  test.skipIf(!canMount)(
    "is not told when another file was mounted over it for the process alone",
    async () => {
      const trusted = program("trusted");
      const evil = program("evil", "evil");
      const script = `mount --bind "${evil}" "${trusted}" && exec "${trusted}" 60`;
      const pid = await running([...ownMounts, "sh", "-c", script], trusted);
      expect(await programSelectors(pid)).toEqual([sha256Of(evil)]);
    },
  );

  test("is not told any more when the file was removed or replaced", async () => {
    const path = program("upgraded");
    const hash = sha256Of(path);
    const pid = await running([path, "60"], path);
    unlinkSync(path);
    expect(await programSelectors(pid)).toEqual([hash]);
    renameSync(program("other", "other"), path);
    expect(await programSelectors(pid)).toEqual([hash]);
    renameSync(program("decoy", "decoy"), `${path} (deleted)`);
    expect(await programSelectors(pid)).toEqual([hash]);
  });
});

test("each connection has the process that made it, however many come and go", async () => {
  const processes = 8;
  const connections = 60;
  const path = join(directory, "api.sock");
  const reader = createPeerReader();
  const wrong: string[] = [];
  let seen = 0;
  const all = Promise.withResolvers<void>();
  const server = createServer((socket: Socket) => {
    socket.on("error", () => {});
    // Some are closed by the other side before this side comes to them.
    const { pid, release } = reader.read(socket);
    socket.on("data", (said) => {
      if (said.toString() !== String(pid)) wrong.push(`${said} was taken for ${pid}`);
    });
    socket.on("close", () => {
      release();
      seen += 1;
      if (seen === processes * connections) all.resolve();
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const client = `
    import { connect } from "node:net";
    const next = (left) => {
      if (left === 0) return;
      const socket = connect(${JSON.stringify(path)});
      socket.end(String(process.pid));
      socket.resume().on("close", () => next(left - 1));
    };
    for (let lane = 0; lane < 4; lane += 1) next(${connections / 4});
  `;
  for (let number = 0; number < processes; number += 1) {
    children.push(spawn(process.execPath, ["-e", client], { stdio: "inherit" }));
  }
  await all.promise;
  server.close();
  expect(wrong).toEqual([]);
});
