/** The programs as processes of their own: names, signals, exit codes, and a server with an agent end to end. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dir, "../../src/main.ts");
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "programs-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...args: string[]) {
  return Bun.spawn([process.execPath, main, ...args], { cwd: folder, stdout: "pipe", stderr: "pipe" });
}

async function run(...args: string[]) {
  const child = start(...args);
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, stdout, stderr };
}

/** Reads lines until one contains the text. @returns what was read. */
async function untilPrinted(child: ReturnType<typeof start>, text: string): Promise<string> {
  let printed = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout.values({ preventCancel: true })) {
    printed += decoder.decode(chunk, { stream: true });
    if (printed.includes(text)) return printed;
  }
  throw new Error(`ended without "${text}": ${printed}`);
}

test("the version is printed, also as JSON", async () => {
  const { code, stdout } = await run("version", "-output", "json");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    os: process.platform,
  });
});

test("the name of the link that the program is called by selects the program", async () => {
  const link = join(folder, "spire-server");
  symlinkSync(process.execPath, link);
  const child = Bun.spawn([link, main], { argv0: "spire-server", stderr: "pipe" });
  expect(await child.stderr.text()).toStartWith("Usage: spire-server [--version]");
  expect(await child.exited).toBe(127);
});

test("a server and an agent start, serve a workload, and end gracefully when they are asked to", async () => {
  const socket = ["-socketPath", "server.sock"];
  const server = start(
    ...["server", "run", "-trustDomain", "example.org", "-dataDir", "server-data", ...socket],
    ...["-bindAddress", "127.0.0.1", "-serverPort", "0"],
  );
  const log = await untilPrinted(server, 'Starting Server APIs" address="127');
  const port = /127\.0\.0\.1:(\d+)/.exec(log)?.[1] ?? "";
  expect(await run("server", "healthcheck", ...socket)).toMatchObject({
    code: 0,
    stdout: "Server is healthy.\n",
  });

  await Bun.write(join(folder, "bundle.pem"), (await run("server", "bundle", "show", ...socket)).stdout);
  const generated = await run(
    "server",
    "token",
    "generate",
    "-spiffeID",
    "spiffe://example.org/node",
    "-output",
    "json",
    ...socket,
  );
  const token = (JSON.parse(generated.stdout) as { value: string }).value;
  const created = await run(
    ...["server", "entry", "create", "-parentID", "spiffe://example.org/node", ...socket],
    ...["-spiffeID", "spiffe://example.org/web", "-selector", `unix:uid:${process.getuid?.() ?? 0}`],
  );
  expect(created).toMatchObject({ code: 0, stderr: "" });

  const agent = start(
    ...["agent", "run", "-trustDomain", "example.org", "-serverAddress", "127.0.0.1", "-serverPort", port],
    ...[
      "-trustBundle",
      "bundle.pem",
      "-joinToken",
      token,
      "-dataDir",
      "agent-data",
      "-socketPath",
      "agent.sock",
    ],
    ...["-logLevel", "debug"],
  );
  await untilPrinted(agent, "Node attestation was successful");
  const fetched = await fetchOnceServed();
  expect(fetched).toMatchObject({ code: 0, stderr: "" });
  expect(fetched.stdout).toContain("SPIFFE ID:\t\tspiffe://example.org/web\n");

  agent.kill("SIGTERM");
  server.kill("SIGINT");
  expect(await Promise.all([agent.exited, server.exited])).toEqual([0, 0]);
  expect(existsSync(join(folder, "server.sock"))).toBe(false);
  expect(existsSync(join(folder, "agent.sock"))).toBe(false);
}, 60_000);

/** Between attestation and the open socket lies the first sync. */
async function fetchOnceServed() {
  for (;;) {
    const fetched = await run("agent", "api", "fetch", "-socketPath", "agent.sock");
    if (!fetched.stderr.includes("no such file or directory")) return fetched;
  }
}

test("a server that can't start says why and exits with 1", async () => {
  const { code, stdout } = await run(
    ...[
      "server",
      "run",
      "-trustDomain",
      "example.org",
      "-dataDir",
      "/dev/null/x",
      "-socketPath",
      "other.sock",
    ],
    ...["-bindAddress", "127.0.0.1", "-serverPort", "0"],
  );
  expect(code).toBe(1);
  expect(stdout).toContain('level=error msg="Server crashed" error=');
});
