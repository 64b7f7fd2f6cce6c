/** `spire dev` as its users see it: what it says, what it hands out, what it leaves behind. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { createSandbox, type DevReady, finish, program, type Sandbox } from "./program.ts";

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = createSandbox();
});
afterEach(() => sandbox.close());

const uid = String(process.getuid?.());

/** The SPIFFE IDs that this user's processes get. */
async function fetchIds(ready: DevReady): Promise<string[]> {
  const { out } = await finish(
    sandbox.spire("agent", "api", "fetch", "x509", "-socketPath", ready.workload_api_socket),
  );
  return [...out.matchAll(/^SPIFFE ID:\s+(.*)$/gm)].map(([, id]) => String(id));
}

describe("ready", () => {
  test("one line of JSON with exactly the promised members", async () => {
    const { running, ready } = await sandbox.dev();
    const line = `${JSON.stringify(ready)}\n`;
    expect(Object.keys(ready)).toEqual([
      "version",
      "pid",
      "trust_domain",
      "workload_api_socket",
      "server_socket",
      "server_address",
      "agent_id",
      "bundle_path",
      "ca_sha256",
      "entries",
      "env",
      "startup_ms",
    ]);
    expect(ready).toMatchObject({
      pid: running.pid,
      trust_domain: "example.org",
      server_address: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      agent_id: expect.stringMatching(/^spiffe:\/\/example\.org\/spire\/agent\/join_token\/./),
      entries: [{ selectors: [`unix:uid:${uid}`], parent_id: ready.agent_id }],
      env: { SPIFFE_ENDPOINT_SOCKET: `unix://${ready.workload_api_socket}` },
    });
    const certificate = new X509Certificate(readFileSync(ready.bundle_path));
    expect(ready.ca_sha256).toBe(createHash("sha256").update(certificate.raw).digest("hex"));
    expect(await fetchIds(ready)).toEqual(ready.entries.map(({ spiffe_id }) => spiffe_id));
    running.kill("SIGTERM");
    expect(await running.ended).toBe(0);
    expect(await running.out.all()).toBe(line);
    expect(await running.err.all()).toBe("");
  });

  test("a screen of under 20 lines that ends with READY", async () => {
    const many = Array.from({ length: 30 }, (_, n) => ["--entry", `/w${n}=unix:uid:${n}`]).flat();
    const running = sandbox.spire("dev", ...many);
    await running.out.next((line) => line.startsWith("READY"));
    running.kill("SIGINT");
    const { out, err, code } = await finish(running);
    const lines = out.trimEnd().split("\n");
    expect(lines.length).toBeLessThan(20);
    expect(lines[0]).toMatch(/^spire \d+\.\d+\.\d+.*for development, not for production/);
    expect(out).toContain("spiffe://example.org/w0 by unix:uid:0");
    expect(out).toContain("export SPIFFE_ENDPOINT_SOCKET='unix:///");
    expect(lines.at(-1)).toMatch(/^READY in \d+ ms$/);
    expect(err).toBe("");
    expect(code).toBe(0);
  });

  test("logs go to standard error, on -v", async () => {
    const { running } = await sandbox.dev("-v");
    expect(await running.err.next((line) => line.includes("attestation was successful"))).toContain("INFO");
  });
});

describe("what is handed out", () => {
  test("entries of options, in the order given", async () => {
    const { ready } = await sandbox.dev(
      "--trust-domain",
      "dev.test",
      "--entry",
      `/second/one=unix:uid:${uid}`,
      "--entry",
      `spiffe://dev.test/first=unix:uid:${uid},unix:gid:${process.getgid?.()}`,
      "--entry",
      "/other=unix:uid:4294967",
    );
    expect(await fetchIds(ready)).toEqual(["spiffe://dev.test/second/one", "spiffe://dev.test/first"]);
  });

  test("selectors of the program's path and hash", async () => {
    const path = program[0] ?? "";
    const hash = createHash("sha256").update(readFileSync(path)).digest("hex");
    const { ready } = await sandbox.dev(
      "--entry",
      `/path=unix:path:${path}`,
      "--entry",
      `/hash=unix:sha256:${hash}`,
    );
    expect(await fetchIds(ready)).toEqual(["spiffe://example.org/path", "spiffe://example.org/hash"]);
  });

  test("a hash that is asked for only later", async () => {
    const { ready } = await sandbox.dev();
    const before = await fetchIds(ready);
    const hash = createHash("sha256")
      .update(readFileSync(program[0] ?? ""))
      .digest("hex");
    const created = await finish(
      sandbox.spire(
        ...["server", "entry", "create", "-socketPath", ready.server_socket, "-parentID", ready.agent_id],
        ...["-spiffeID", "spiffe://example.org/hash", "-selector", `unix:sha256:${hash}`],
      ),
    );
    expect(created.code).toBe(0);
    expect((await fetchIds(ready)).sort()).toEqual([...before, "spiffe://example.org/hash"].sort());
  });
});

describe("several instances", () => {
  test("run at once, and dev env wants a name", async () => {
    const [first, second] = await Promise.all([sandbox.dev(), sandbox.dev("--name", "mine")]);
    expect(await fetchIds(first.ready)).toHaveLength(1);
    expect(await fetchIds(second.ready)).toHaveLength(1);
    const both = await finish(sandbox.spire("dev", "env"));
    expect(both).toMatchObject({ code: 1, out: "" });
    expect(both.err).toContain("--name");
    expect(both.err).toContain(`mine  pid ${second.ready.pid}`);
    const script = 'eval "$("$@" dev env --name mine)" && printf %s "$SPIFFE_ENDPOINT_SOCKET"';
    const chosen = await finish(sandbox.start(["sh", "-c", script, "sh", ...program]));
    expect(chosen).toMatchObject({ code: 0, out: second.ready.env["SPIFFE_ENDPOINT_SOCKET"] });
    const taken = await finish(sandbox.spire("dev", "--name", "mine"));
    expect(taken).toMatchObject({ code: 1, out: "" });
    expect(taken.err).toContain('an instance named "mine" runs already');
  });

  test("dev env says so when none runs", async () => {
    const { code, out, err } = await finish(sandbox.spire("dev", "env"));
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("no development instance runs");
  });

  test("dev env refuses a directory that others could have made", async () => {
    mkdirSync(join(sandbox.directory, "elsewhere"), { mode: 0o700 });
    symlinkSync(join(sandbox.directory, "elsewhere"), join(sandbox.runtimeDirectory, "spire-dev"));
    for (const args of [["dev", "env"], ["dev"]]) {
      const { code, out, err } = await finish(sandbox.spire(...args));
      expect({ code, out }).toEqual({ code: 1, out: "" });
      expect(err).toContain("is a symbolic link");
    }
  });
});

describe("the end", () => {
  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("%s leaves nothing behind", async (signal) => {
    const { running, ready } = await sandbox.dev();
    expect(statSync(join(ready.workload_api_socket, "..")).mode & 0o7777).toBe(0o700);
    running.kill(signal);
    expect(await running.ended).toBe(0);
    expect(readdirSync(sandbox.runtimeDirectory)).toEqual([]);
    // Every process that held its output has ended.
    await running.out.all();
  });

  test("what a killed instance left is reclaimed", async () => {
    const killed = await sandbox.dev("--socket-dir", "sockets");
    killed.running.kill("SIGKILL");
    await killed.running.ended;
    expect(existsSync(killed.ready.workload_api_socket)).toBe(true);
    const next = await sandbox.dev("--socket-dir", "sockets");
    expect(next.ready.workload_api_socket).toBe(killed.ready.workload_api_socket);
    expect(readdirSync(join(sandbox.runtimeDirectory, "spire-dev"))).toEqual(["dev"]);
    expect(await fetchIds(next.ready)).toHaveLength(1);
  });

  test("a socket in use is never taken", async () => {
    const { ready } = await sandbox.dev("--socket-dir", "sockets");
    const { code, err } = await finish(sandbox.spire("dev", "--socket-dir", "sockets"));
    expect(code).toBe(1);
    expect(err).toContain(ready.server_socket);
    expect(await fetchIds(ready)).toHaveLength(1);
    expect(readdirSync(join(sandbox.runtimeDirectory, "spire-dev"))).toEqual(["dev"]);
  });

  test("a socket directory that is too deep is replaced by a short one, which goes too", async () => {
    const deep = join(sandbox.directory, "d".repeat(120));
    const { running, ready } = await sandbox.dev("--socket-dir", deep);
    expect(Buffer.byteLength(ready.workload_api_socket)).toBeLessThanOrEqual(107);
    expect(await running.err.next()).toContain("too long for a socket");
    expect(await fetchIds(ready)).toHaveLength(1);
    running.kill("SIGTERM");
    expect(await running.ended).toBe(0);
    expect(existsSync(join(ready.workload_api_socket, ".."))).toBe(false);
  });
});

describe("refused", () => {
  test.each([
    [["--bind", "0.0.0.0"], 'loopback address only, not on "0.0.0.0"'],
    [["--bind", "192.0.2.1"], 'loopback address only, not on "192.0.2.1"'],
    [["--bind", "::"], 'loopback address only, not on "::"'],
    [["--port", "0.0.0.0:8081"], "-port"],
    [["--port", "65536"], "port"],
    [["--trust-domain", "Example.org"], "lowercase"],
    [["--entry", "/web"], '--entry "/web": must be formatted as ID=selector'],
    [["--name", "../x"], "is no instance name"],
    [["-f", "missing.yaml"], "missing.yaml: no such file"],
    [["--trust-domian", "x"], "did you mean -trust-domain?"],
    [["evn"], "did you mean env?"],
    [["true"], "dev -- true"],
    [["--"], "must be followed by a command"],
  ])("dev %j", async (args, message) => {
    const { code, out, err } = await finish(sandbox.spire("dev", ...args));
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain(message);
    expect(readdirSync(sandbox.runtimeDirectory)).toEqual([]);
  });
});

test("help says enough to begin with", async () => {
  const { code, out, err } = await finish(sandbox.spire("dev", "--help"));
  expect({ code, err }).toEqual({ code: 0, err: "" });
  for (const word of ["SPIFFE_ENDPOINT_SOCKET", "--entry", "--data-dir", "dev -- go test", "dev env"]) {
    expect(out).toContain(word);
  }
});
