import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { currentUid, listInstances, takeRunDirectory } from "./instances.ts";
import { checkPrivateDirectory, instancesDirectory, makePrivateDirectory } from "./private-directory.ts";
import { openSocketDirectory, socketUri } from "./socket-directory.ts";
import { openPersistentState, openTemporaryState } from "./state-directory.ts";

const uid = currentUid();
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "spire-test-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe("the directory of a user's instances", () => {
  test("lies in XDG_RUNTIME_DIR", () => {
    const surroundings = { runtimeDirectory: root, temporaryDirectory: "/tmp", uid };
    expect(instancesDirectory(surroundings)).toBe(join(root, "spire-dev"));
  });

  test.each([undefined, "", "relative", "/does/not/exist"])(
    "without a usable one (%p), in the temporary one",
    (runtimeDirectory) => {
      expect(instancesDirectory({ runtimeDirectory, temporaryDirectory: "/t", uid })).toBe(
        `/t/spire-dev-${uid}`,
      );
    },
  );

  test("another user's XDG_RUNTIME_DIR is left alone", () => {
    const surroundings = { runtimeDirectory: root, temporaryDirectory: "/t", uid: uid + 1 };
    expect(instancesDirectory(surroundings)).toBe(`/t/spire-dev-${uid + 1}`);
  });
});

describe("a private directory", () => {
  const path = () => join(root, "d");

  test("is made with 0700", () => {
    makePrivateDirectory(path(), uid);
    expect(statSync(path()).mode & 0o7777).toBe(0o700);
    expect(checkPrivateDirectory(path(), uid)).toBe(true);
  });

  test("that is not there is no error to ask for", () =>
    expect(checkPrivateDirectory(path(), uid)).toBe(false));

  test("is refused when others may enter", () => {
    mkdirSync(path());
    chmodSync(path(), 0o750);
    expect(() => makePrivateDirectory(path(), uid)).toThrow(
      `has mode 0750, not 0700; run: chmod 700 ${path()}`,
    );
  });

  test("is refused when it is a symbolic link, wherever that leads", () => {
    mkdirSync(join(root, "target"), { mode: 0o700 });
    symlinkSync(join(root, "target"), path());
    expect(() => makePrivateDirectory(path(), uid)).toThrow("is a symbolic link");
    rmSync(join(root, "target"), { recursive: true });
    expect(() => makePrivateDirectory(path(), uid)).toThrow("is a symbolic link");
  });

  test("is refused when it is a file", () => {
    writeFileSync(path(), "");
    expect(() => makePrivateDirectory(path(), uid)).toThrow("is not a directory");
  });

  test("is refused when it is another user's", () => {
    mkdirSync(path(), { mode: 0o700 });
    expect(() => makePrivateDirectory(path(), uid + 1)).toThrow(`belongs to uid ${uid}, not to you`);
  });
});

describe("instances", () => {
  const base = () => join(root, "base");
  const record = (name: string) => ({
    name,
    pid: 1,
    trust_domain: "example.org",
    server_address: "127.0.0.1:1",
    env: {},
  });

  test("get names of their own and private directories", () => {
    const taken = [takeRunDirectory(base()), takeRunDirectory(base()), takeRunDirectory(base(), "mine")];
    expect(taken.map(({ name }) => name)).toEqual(["dev", "dev-2", "mine"]);
    for (const { path } of taken) expect(statSync(path).mode & 0o7777).toBe(0o700);
    expect(() => takeRunDirectory(base(), "mine")).toThrow('an instance named "mine" runs already');
    expect(readdirSync(base()).sort()).toEqual(["dev", "dev-2", "mine"]);
    for (const instance of taken) instance.release();
    expect(existsSync(base())).toBe(false);
  });

  test("are listed once they are published", () => {
    const first = takeRunDirectory(base());
    const second = takeRunDirectory(base());
    expect(listInstances(base())).toEqual([]);
    second.publish(record("dev-2"));
    expect(listInstances(base()).map(({ name }) => name)).toEqual(["dev-2"]);
    expect(statSync(join(second.path, "instance.json")).mode & 0o777).toBe(0o600);
    first.release();
    second.release();
    expect(listInstances(base())).toEqual([]);
  });

  test("that died are neither listed nor in the way, and go with the sockets they left elsewhere", () => {
    mkdirSync(join(base(), "dev"), { recursive: true, mode: 0o700 });
    chmodSync(base(), 0o700);
    const left = mkdtempSync(join(root, "sockets-"));
    writeFileSync(join(base(), "dev", "lock"), "");
    writeFileSync(
      join(base(), "dev", "instance.json"),
      JSON.stringify({ ...record("dev"), temporary_directory: left }),
    );
    expect(listInstances(base())).toEqual([]);
    const instance = takeRunDirectory(base());
    expect(instance.name).toBe("dev");
    expect(existsSync(left)).toBe(false);
    instance.release();
  });

  test.each(["", "..", ".hidden", "a/b", "-x", "a b", "x".repeat(65)])("can't be called %p", (name) => {
    expect(() => takeRunDirectory(base(), name)).toThrow("is no instance name");
  });
});

describe("sockets", () => {
  test("lie where the user wants, in a directory that is made and removed again", () => {
    const wanted = join(root, "a", "b");
    const sockets = openSocketDirectory(wanted);
    expect(sockets).toMatchObject({
      workloadApi: join(wanted, "agent.sock"),
      server: join(wanted, "server.sock"),
    });
    expect(statSync(wanted).mode & 0o777).toBe(0o700);
    sockets.release();
    expect(readdirSync(root)).toEqual([]);
  });

  test("leave a directory that was there, and what others put in one", () => {
    openSocketDirectory(root).release();
    expect(existsSync(root)).toBe(true);
    const sockets = openSocketDirectory(join(root, "a"));
    writeFileSync(join(root, "a", "other"), "");
    sockets.release();
    expect(existsSync(join(root, "a", "other"))).toBe(true);
  });

  test("move to a short private directory when a path would have more than 107 bytes", () => {
    const length = 107 - Buffer.byteLength(join(root, "", "x/server.sock")) + 1;
    const fits = openSocketDirectory(join(root, "y".repeat(length)));
    expect(fits.fallback).toBeUndefined();
    expect(Buffer.byteLength(fits.server)).toBe(107);
    fits.release();
    const tooLong = openSocketDirectory(join(root, "y".repeat(length + 1)), root);
    expect(tooLong.fallback).toBeDefined();
    expect(statSync(String(tooLong.fallback)).mode & 0o777).toBe(0o700);
    expect(tooLong.workloadApi.startsWith(String(tooLong.fallback))).toBe(true);
    tooLong.release();
    expect(readdirSync(root)).toEqual([]);
  });

  test("count bytes, not characters", () => {
    const sockets = openSocketDirectory(join(root, "ü".repeat(50)), root);
    expect(sockets.fallback).toBeDefined();
    sockets.release();
  });

  test.each([
    ["/run/a.sock", "unix:///run/a.sock"],
    ["/a b/100%/?#.sock", "unix:///a%20b/100%25/%3F%23.sock"],
  ])("%s is named %s", (path, uri) => {
    expect(socketUri(path)).toBe(uri);
    expect(decodeURIComponent(new URL(uri).pathname)).toBe(path);
  });
});

describe("a state directory", () => {
  const record = { trust_domain: "example.org", agent_id: "", file_entries: ["a"] };

  test("keeps its record, and is private from then on", async () => {
    chmodSync(root, 0o755);
    const first = openPersistentState(root);
    expect(first.record).toBeUndefined();
    await first.save(record);
    first.release();
    const second = openPersistentState(root);
    expect(second.record).toEqual(record);
    second.release();
    expect(statSync(root).mode & 0o777).toBe(0o700);
  });

  test("serves one instance at a time", () => {
    const first = openPersistentState(root);
    expect(() => openPersistentState(root)).toThrow("is in use by another development instance");
    first.release();
    openPersistentState(root).release();
  });

  test("must not be something else's", () => {
    writeFileSync(join(root, "server.conf"), "");
    expect(() => openPersistentState(root)).toThrow("is not empty and holds no dev.json");
  });

  test.each(["", "{", "[]", '{"trust_domain":1}'])("with the damaged marker %j is refused", (text) => {
    writeFileSync(join(root, "dev.json"), text);
    expect(() => openPersistentState(root)).toThrow("holds a damaged dev.json");
  });

  test("of one run only has the marker, too", async () => {
    await openTemporaryState(root).save(record);
    expect(readdirSync(root)).toEqual(["dev.json"]);
  });
});
