import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, existsSync, lstatSync, readdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { SpireError } from "../core/errors.ts";
import { createWorkspace, type Workspace } from "./testing.ts";
import { listenAtPath, longestSocketPathBytes } from "./unix-socket.ts";

let workspace: Workspace;
let servers: Server[];

beforeEach(() => {
  workspace = createWorkspace();
  servers = [];
});
afterEach(() => {
  for (const server of servers) server.close();
  workspace.remove();
});

function newServer(): Server {
  const server = createServer((socket) => socket.destroy());
  servers.push(server);
  return server;
}
const listen = (path: string, mode = 0o600) => listenAtPath(newServer(), path, { mode });
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "OK",
    (error: unknown) => SpireError.from(error).code,
  );

function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => resolve(true));
    socket.on("error", () => resolve(false));
  });
}

/** A socket file whose owner is gone without cleaning up. */
async function leaveStale(path: string): Promise<void> {
  const server = createServer();
  const elsewhere = `${path}.x`;
  await new Promise<void>((resolve) => server.listen(elsewhere, resolve));
  renameSync(elsewhere, path);
  await new Promise((resolve) => server.close(resolve));
  expect(existsSync(path)).toBe(true);
}

test("the socket has its rights, its directory is made, and nothing else is left there", async () => {
  const path = workspace.file("a/b/api.sock");
  await listenAtPath(newServer(), path, { mode: 0o770, directoryMode: 0o750 });
  expect(lstatSync(path).isSocket()).toBe(true);
  expect(lstatSync(path).mode & 0o777).toBe(0o770);
  expect(statSync(workspace.file("a/b")).mode & 0o777).toBe(0o750);
  expect(readdirSync(workspace.file("a/b"))).toEqual(["api.sock"]);
  expect(await connects(path)).toBe(true);
});

test("an existing directory keeps its rights", async () => {
  chmodSync(workspace.path, 0o711);
  await listenAtPath(newServer(), workspace.file("s"), { mode: 0o600, directoryMode: 0o750 });
  expect(statSync(workspace.path).mode & 0o777).toBe(0o711);
});

test("a stale socket is reclaimed", async () => {
  const path = workspace.file("api.sock");
  await leaveStale(path);
  expect(await connects(path)).toBe(false);
  await listen(path);
  expect(await connects(path)).toBe(true);
});

test("a live socket is never taken", async () => {
  const path = workspace.file("api.sock");
  await listen(path);
  expect(await codeOf(listen(path))).toBe("FAILED_PRECONDITION");
  expect(await connects(path)).toBe(true);
  expect(readdirSync(workspace.path)).toEqual(["api.sock"]);
});

test("of several that start at once on a stale socket, exactly one gets it", async () => {
  const path = workspace.file("api.sock");
  for (let round = 0; round < 20; round++) {
    await leaveStale(path);
    const starts = Array.from({ length: 8 }, () => listen(path));
    const outcomes = await Promise.all(starts.map(codeOf));
    expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(1);
    expect(await connects(path)).toBe(true);
    const [winner] = (await Promise.allSettled(starts)).filter((result) => result.status === "fulfilled");
    winner?.value();
    for (const server of servers.splice(0)) server.close();
    expect(readdirSync(workspace.path)).toEqual([]);
  }
});

test("a file that is no socket stays", async () => {
  const path = workspace.file("api.sock");
  writeFileSync(path, "precious");
  expect(await codeOf(listen(path))).toBe("FAILED_PRECONDITION");
  expect(lstatSync(path).isFile()).toBe(true);
});

test("a path of 107 bytes works and one more names the limit", async () => {
  const room = longestSocketPathBytes - Buffer.byteLength(workspace.path) - 1;
  const path = workspace.file("s".repeat(room));
  await listen(path);
  expect(await connects(path)).toBe(true);
  const error = await listen(`${path}s`).catch((caught: unknown) => SpireError.from(caught));
  expect(error).toMatchObject({ code: "INVALID_ARGUMENT", message: expect.stringContaining("107 bytes") });
  expect(readdirSync(workspace.path)).toHaveLength(1);
});

test("a short name in a deep directory fits the limit too", async () => {
  const room = longestSocketPathBytes - Buffer.byteLength(workspace.path) - 3;
  const path = workspace.file(`${"d".repeat(room)}/s`);
  await listen(path);
  expect(await connects(path)).toBe(true);
});

test("the file goes with its owner, but not when another has taken its place", async () => {
  const path = workspace.file("api.sock");
  const remove = await listen(path);
  remove();
  expect(existsSync(path)).toBe(false);
  const removeFirst = await listen(path);
  renameSync(path, workspace.file("moved"));
  await listen(path);
  removeFirst();
  expect(await connects(path)).toBe(true);
});

test("a directory that can't be written in is an error with the path", async () => {
  writeFileSync(workspace.file("file"), "");
  const path = workspace.file("file/api.sock");
  const error = await listen(path).catch((caught: unknown) => SpireError.from(caught));
  expect(error).toMatchObject({ code: "UNAVAILABLE", message: expect.stringContaining(path) });
});
