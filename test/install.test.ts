/** install.sh installs what SHA256SUMS vouches for, and nothing else. */
import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { capture, root } from "../scripts/run.ts";
import { type TemporaryFolder, temporaryFolder } from "./interop/folders.ts";

const program = "#!/bin/sh\necho spire 1.2.3\n";
const targets = [
  "linux-x64",
  "linux-arm64",
  "linux-x64-musl",
  "linux-arm64-musl",
  "darwin-x64",
  "darwin-arm64",
];

const hashOf = (text: string) => createHash("sha256").update(text).digest("hex");

/** A release whose executables are `text` and whose hashes are those of `hashed`. */
async function release(text: string, hashed = text): Promise<TemporaryFolder> {
  const folder = await temporaryFolder();
  const names = targets.map((target) => `spire-${target}`);
  await Promise.all(names.map((name) => writeFile(join(folder.path, name), text)));
  const sums = names.map((name) => `${hashOf(hashed)}  ${name}\n`);
  await writeFile(join(folder.path, "SHA256SUMS"), sums.join(""));
  return folder;
}

const install = (...args: string[]) => capture(["sh", join(root, "install.sh"), ...args]);

test("installs the executable and the names of its programs", async () => {
  await using from = await release(program);
  await using to = await temporaryFolder();
  const { exitCode, output } = await install("--from", from.path, "--to", to.path);
  expect(output).toContain("installed spire 1.2.3 as");
  expect(exitCode).toBe(0);
  expect((await readdir(to.path)).sort()).toEqual(["spire", "spire-agent", "spire-server"]);
  expect(await readlink(join(to.path, "spire-server"))).toBe("spire");
});

test("leaves other programs of these names alone", async () => {
  await using from = await release(program);
  await using to = await temporaryFolder();
  await writeFile(join(to.path, "spire-server"), "another");
  const { exitCode, output } = await install("--from", from.path, "--to", to.path);
  expect(exitCode).toBe(0);
  expect(output).toContain("spire-server is another program");
  expect(await readFile(join(to.path, "spire-server"), "utf8")).toBe("another");
});

test("replaces an earlier version", async () => {
  await using from = await release(program);
  await using to = await temporaryFolder();
  await writeFile(join(to.path, "spire"), "earlier");
  expect((await install("--from", from.path, "--to", to.path)).exitCode).toBe(0);
  expect(await readFile(join(to.path, "spire"), "utf8")).toBe(program);
});

const refusals: [string, () => Promise<TemporaryFolder>, string][] = [
  ["a wrong hash", () => release(program, "other"), "is not the one in SHA256SUMS"],
  ["an executable that does not run", () => release("#!/bin/sh\nexit 1\n"), "does not run on this machine"],
  ["a release without anything", temporaryFolder, "holds no spire-"],
  [
    "hashes without the executable's",
    async () => {
      const folder = await release(program);
      await writeFile(join(folder.path, "SHA256SUMS"), `${hashOf(program)}  other\n`);
      return folder;
    },
    "has no single hash",
  ],
];

test.each(refusals)("refuses %s", async (_, makeRelease, complaint) => {
  await using from = await makeRelease();
  await using to = await temporaryFolder();
  const { exitCode, output } = await install("--from", from.path, "--to", to.path);
  expect(output).toContain(complaint);
  expect(exitCode).not.toBe(0);
  expect(existsSync(join(to.path, "spire"))).toBe(false);
  expect(await readdir(to.path)).toEqual([]);
});

test("refuses to guess where releases are", async () => {
  await using to = await temporaryFolder();
  const { exitCode, output } = await install("--to", to.path);
  expect(output).toContain("say where to install from");
  expect(exitCode).not.toBe(0);
});

test("refuses a release URL without TLS", async () => {
  await using to = await temporaryFolder();
  const { exitCode, output } = await capture(["sh", join(root, "install.sh"), "--to", to.path], {
    env: { SPIRE_RELEASE_URL: "http://127.0.0.1/" },
  });
  expect(output).toContain("must be an https URL");
  expect(exitCode).not.toBe(0);
});
