import { afterAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createUnixAttestor, type UnixAttestorOptions } from "./unix.ts";

const directory = mkdtempSync(join(tmpdir(), "unix-attestor-"));
afterAll(() => rmSync(directory, { recursive: true }));
const { signal } = new AbortController();
const self = { pid: process.pid, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

/** An attestor over a made-up system with one process, 7, of effective user 1000 and group 100. */
function inMadeUpSystem(options: Partial<UnixAttestorOptions> = {}, groups = "27 100") {
  const root = mkdtempSync(join(directory, "system-"));
  const file = (name: string, text: string) => {
    writeFileSync(join(root, name), text);
    return join(root, name);
  };
  mkdirSync(join(root, "7"));
  file("7/status", `Name:\tUid: 5\nUid:\t1\t1000\t1\t1\nGid:\t1\t100\t1\t1\nGroups:\t${groups} \nPid:\t7\n`);
  const program = file("program", "a program");
  symlinkSync(program, join(root, "7/exe"));
  const passwdPath = file(
    "passwd",
    "root:x:0:0::/:/bin/sh\nalice:x:1000:100::/:/bin/sh\nbob:x:1000:1::/:/\n",
  );
  const groupPath = file("group", "users:x:100:\nsudo:x:27:alice\n");
  const attestor = createUnixAttestor({
    discoverWorkloadPath: false,
    workloadSizeLimit: 0,
    procPath: root,
    passwdPath,
    groupPath,
    ...options,
  });
  const attest = async (process = { pid: 7, uid: 1000, gid: 100 }) =>
    (await attestor.attest(process, signal)).map(({ value }) => value);
  return { attest, passwdPath, program };
}

describe("the unix attestor", () => {
  test("tells effective user and group, and the supplementary groups, with their names", async () => {
    expect(await inMadeUpSystem().attest()).toEqual([
      "uid:1000",
      "user:alice",
      "gid:100",
      "group:users",
      "supplementary_gid:27",
      "supplementary_group:sudo",
      "supplementary_gid:100",
      "supplementary_group:users",
    ]);
  });

  test("leaves out names that the system's tables don't know", async () => {
    const { attest } = inMadeUpSystem({ passwdPath: "/does/not/exist", groupPath: "/does/not/exist" }, "");
    expect(await attest()).toEqual(["uid:1000", "gid:100"]);
  });

  test("follows the tables when they change", async () => {
    const { attest, passwdPath } = inMadeUpSystem();
    await attest();
    writeFileSync(passwdPath, "somebody-else:x:1000:100::/:/bin/sh\n");
    expect(await attest()).toContain("user:somebody-else");
  });

  test("reads a list of groups of any length", async () => {
    const ids = Array.from({ length: 60_000 }, (_, index) => index + 1_000_000);
    const found = await inMadeUpSystem({}, ids.join(" ")).attest();
    expect(found).toContain("supplementary_gid:1059999");
  });

  test("refuses a process whose effective IDs are not those that connected", async () => {
    const { attest } = inMadeUpSystem();
    await expect(attest({ pid: 7, uid: 0, gid: 100 })).rejects.toMatchObject({ code: "INTERNAL" });
    await expect(attest({ pid: 7, uid: 1000, gid: 0 })).rejects.toMatchObject({ code: "INTERNAL" });
  });

  test("gives equal processes the very same array, so that what hangs on it can be shared", async () => {
    const attestor = createUnixAttestor({ discoverWorkloadPath: false, workloadSizeLimit: 0 });
    expect(await attestor.attest(self, signal)).toBe(await attestor.attest(self, signal));
  });

  test("with discovery tells path and hash of the program", async () => {
    const { attest, program } = inMadeUpSystem({ discoverWorkloadPath: true });
    const sha256 = createHash("sha256").update(readFileSync(program)).digest("hex");
    expect((await attest()).slice(-2)).toEqual([`path:${program}`, `sha256:${sha256}`]);
  });

  test("hashes anew when the program is another one", async () => {
    const { attest, program } = inMadeUpSystem({ discoverWorkloadPath: true });
    const before = await attest();
    writeFileSync(program, "b program");
    expect((await attest()).at(-1)).not.toBe(before.at(-1));
  });

  test("with a limit below zero tells the path only", async () => {
    const { attest, program } = inMadeUpSystem({ discoverWorkloadPath: true, workloadSizeLimit: -1 });
    expect((await attest()).at(-1)).toBe(`path:${program}`);
  });

  test("hashes only while somebody cares for it", async () => {
    let hashWanted = false;
    const { attest, program } = inMadeUpSystem({
      discoverWorkloadPath: true,
      hashWanted: () => hashWanted,
    });
    expect((await attest()).at(-1)).toBe(`path:${program}`);
    hashWanted = true;
    expect((await attest()).at(-1)).toStartWith("sha256:");
  });

  test("fails for a program beyond the size limit", async () => {
    const within = inMadeUpSystem({ discoverWorkloadPath: true, workloadSizeLimit: 9 });
    expect((await within.attest()).at(-1)).toStartWith("sha256:");
    const beyond = inMadeUpSystem({ discoverWorkloadPath: true, workloadSizeLimit: 8 });
    await expect(beyond.attest()).rejects.toThrow("larger than the limit of 8 bytes");
  });
});
