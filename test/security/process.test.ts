/** What the environment may do to a running server or agent. */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const directory = mkdtempSync(join(tmpdir(), "spire-process-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const main = join(import.meta.dir, "../../src/main.ts");

async function run(args: readonly string[], env: Record<string, string>) {
  const child = Bun.spawn([process.execPath, main, ...args], {
    cwd: directory,
    env: { ...process.env, ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, text: out + err };
}

describe("with the runtime's debugger switched on", () => {
  const place = (name: string) => join(directory, name);
  const server = ["server", "run", "-trustDomain", "example.org", "-serverPort", "0"];
  const agent = ["agent", "run", "-trustDomain", "example.org", "-insecureBootstrap", "-joinToken", "t"];

  test.each([
    ["a server", { BUN_INSPECT: "127.0.0.1:0" }, server],
    [
      "an agent",
      { BUN_INSPECT: "127.0.0.1:0" },
      [...agent, "-serverAddress", "127.0.0.1", "-serverPort", "1"],
    ],
    ["a server by an option", { BUN_OPTIONS: "--inspect=127.0.0.1:0" }, server],
  ])("%s doesn't start, as whoever reaches that can read its keys", async (_, env, args) => {
    const own = ["-dataDir", place("data"), "-socketPath", place("api.sock")];
    const { code, text } = await run([...args, ...own], env);
    expect(code).toBe(1);
    expect(text).toContain(`${Object.keys(env)[0]} is set`);
    expect([existsSync(place("data")), existsSync(place("api.sock"))]).toEqual([false, false]);
    expect(readdirSync(directory)).toEqual([]);
  });
});
