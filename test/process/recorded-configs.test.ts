/** The configuration files that the recorded servers of stock SPIRE ran with: they run here as they are. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { listeningHost } from "../../src/modes/every-address.ts";
import { makeNodeCertificate } from "../contract/node-certificates.ts";
import { createSandbox, program, type Running, type Sandbox } from "../dev/program.ts";

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = createSandbox();
});
afterEach(() => sandbox.close());

const recorded = (name: string): string =>
  readFileSync(join(import.meta.dir, "../golden/configs", `${name}-server.conf`), "utf8");

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.listen({ host: "127.0.0.1", port: 0 }, () => {
      const address = probe.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}

/** The file with ports that nobody uses here; and those ports, by the recorded ones. */
async function withFreePorts(text: string): Promise<{ text: string; ports: ReadonlyMap<string, number> }> {
  const ports = new Map<string, number>();
  for (const [port = ""] of text.matchAll(/\b2\d{4}\b/g)) ports.set(port, await freePort());
  return { text: text.replace(/\b2\d{4}\b/g, (port) => String(ports.get(port))), ports };
}

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly subsystem_name?: string;
}

/** Without what a server says at level debug, and of calls. */
const linesOf = (log: string): readonly string[] =>
  log
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line)
    .filter(({ level, msg }) => level !== "debug" && msg !== "API accessed")
    .map(({ level, msg, subsystem_name: subsystem = "" }) => `${level} ${subsystem}: ${msg}`);

async function logOf(server: Running, path: string | undefined): Promise<string> {
  const printed = await server.out.all();
  return path === undefined ? printed : readFileSync(join(sandbox.directory, path), "utf8");
}

const start = [
  "warning : Current umask 0022 is too permissive; setting umask 0027",
  "info : Configured",
  "info sql: Opening SQL database",
  "info sql: Initializing new database",
  "info sql: Connected to SQL database",
  "info catalog: Configured DataStore",
  "info ca_manager: There is not a CA journal record that matches any of the local X509 authority IDs",
  "info ca_manager: Journal loaded",
  "info ca_manager: X509 CA prepared",
  "info ca_manager: X509 CA activated",
  "info ca_manager: Creating a new CA journal entry",
  "info ca_manager: JWT key prepared",
  "info ca_manager: JWT key activated",
  "info endpoints: Building in-memory entry cache",
  "info endpoints: Completed building in-memory entry cache",
  "info : Logger service configured",
];
const twice = (message: string): readonly string[] => [message, message];
const end = [
  "info bundle_client: Shutting down",
  ...twice("info endpoints: Stopping Server APIs"),
  ...twice("info endpoints: Attempting graceful stop"),
  ...twice("info endpoints: Graceful stop successful"),
  ...twice("info endpoints: Server APIs have stopped"),
  "info catalog: Catalog closed",
  "info catalog: DataStore closed",
  "info : Server stopped gracefully",
];
const plugins = (configured: number, all: number): readonly string[] => [
  ...Array.from({ length: configured }, () => "info catalog: Configured plugin"),
  ...Array.from({ length: all }, () => "info catalog: Plugin loaded"),
  ...Array.from({ length: all }, () => "info catalog: Plugin unloaded"),
];
const endpoint = [
  "warning : Bundle endpoint is configured but has no profile set, using https_spiffe as default; please configure a profile explicitly. This will be fatal in a future release.",
  "info endpoints: Serving bundle endpoint",
];
const serving = twice("info endpoints: Starting Server APIs");

/** What stock SPIRE 1.16 (development version) logged with each file from its start to its end. */
const stockLog: Readonly<Record<string, readonly string[]>> = {
  main: [
    ...[...start, ...plugins(3, 3), ...endpoint, ...serving, ...end],
    // Its warning of a metrics port that others can reach is not here: they can't reach 127.0.0.1.
    "info telemetry: Starting prometheus exporter",
    "info health: Serving health checks",
  ],
  foreign: [...start, ...plugins(1, 2), ...endpoint, ...serving, ...end],
  logs: [
    ...[...start, ...plugins(2, 2), ...serving, ...end],
    ...["default_x509_svid_ttl", "default_jwt_svid_ttl", "agent_ttl"].map(
      (name) =>
        `warning : ${name} is too high for the configured ca_ttl value. SVIDs with shorter lifetimes may be issued. Please set ${name} to 30s or less, or the ca_ttl to 6m or more, to guarantee the full ${name} lifetime when CA rotations are scheduled.`,
    ),
  ],
};

interface Started {
  readonly server: Running;
  readonly ports: ReadonlyMap<string, number>;
  /** Undefined = standard output. */
  readonly logFile: string | undefined;
}

async function run(name: string): Promise<Started> {
  const { text, ports } = await withFreePorts(recorded(name));
  await mkdir(join(sandbox.directory, "pop"));
  await Bun.write(join(sandbox.directory, "pop/ca.pem"), (await makeNodeCertificate({ ca: true })).pem);
  await Bun.write(join(sandbox.directory, "server.conf"), text);
  const command = ["sh", "-c", 'umask 022; exec "$@"', "sh", ...program];
  const server = sandbox.start([...command, "server", "run", "-config", "server.conf"]);
  const logFile = /log_file = "(.*)"/.exec(text)?.[1];
  await serves(server);
  return { server, ports, logFile };
}

/** A server whose log is a file is asked until it answers. */
async function serves(server: Running): Promise<void> {
  const isOver = server.ended.then(() => true);
  for (;;) {
    const healthy = sandbox.spire("server", "healthcheck", "-socketPath", "sadm/api.sock");
    if ((await healthy.ended) === 0) return;
    const over = await Promise.race([isOver, Promise.resolve(false)]);
    if (over) throw new Error(`the server has ended: ${await server.err.all()}${await server.out.all()}`);
  }
}

test.each(["main", "foreign", "logs"])(
  "%s-server.conf runs, and logs what stock SPIRE logs with it",
  async (name) => {
    const { server, logFile } = await run(name);
    server.kill("SIGTERM");
    expect(await server.ended).toBe(0);
    const expected = [...(stockLog[name] ?? [])];
    expect([...linesOf(await logOf(server, logFile))].sort()).toEqual(expected.sort());
  },
  30_000,
);

test("main-server.conf: metrics, health and the bundle are served at the ports that it names", async () => {
  const { server, ports } = await run("main");
  const get = async (port: string, path: string, scheme = "http") => {
    const url = `${scheme}://127.0.0.1:${ports.get(port)}${path}`;
    return fetch(url, { tls: { rejectUnauthorized: false } });
  };
  for (const path of ["/live", "/ready"]) {
    const answer = await get("28080", path);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("application/json");
  }
  const metrics = await get("29988", "/metrics");
  expect(metrics.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
  expect(await metrics.text()).toContain("spire_server_");
  const bundle = await get("28444", "/", "https");
  expect(await bundle.json()).toMatchObject({ spiffe_refresh_hint: 300 });
  expect((await get("28444", "/nope", "https")).status).toBe(404);
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
}, 30_000);

test("timing-server.conf runs, and logs as text", async () => {
  const { server } = await run("timing");
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  const lines = (await server.out.all()).trimEnd().split("\n");
  expect(lines.at(-1)).toMatch(/^time="[^"]+" level=info msg="Server stopped gracefully"$/);
});

/** Whether somebody listens there. */
function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

test("0.0.0.0 is every address of the machine; a caller with IPv4 keeps its address in the log", async () => {
  const text = recorded("logs")
    .replace(/bind_address = .*/, 'bind_address = "0.0.0.0"')
    .replace(/bind_port = .*/, "bind_port = 0");
  await Bun.write(join(sandbox.directory, "server.conf"), text);
  const server = sandbox.spire("server", "run", "-config", "server.conf");
  const line = await server.out.next((candidate) => candidate.includes('"network":"tcp"'));
  const { address } = JSON.parse(line) as { address: string };
  const port = Number(address.replace(/^.*:/, ""));
  expect(address).toBe(`${listeningHost("0.0.0.0") === "::" ? "[::]" : "0.0.0.0"}:${port}`);
  expect(await answers("127.0.0.1", port)).toBe(true);
  if (listeningHost("0.0.0.0") === "::") expect(await answers("::1", port)).toBe(true);

  await Bun.write(
    join(sandbox.directory, "agent.conf"),
    `agent {
      trust_domain = "example.org"
      data_dir = "agent"
      socket_path = "agent.sock"
      server_address = "127.0.0.1"
      server_port = ${port}
      insecure_bootstrap = true
      join_token = "no such token"
    }
    plugins {
      NodeAttestor "join_token" { plugin_data {} }
      KeyManager "memory" { plugin_data {} }
      WorkloadAttestor "unix" { plugin_data {} }
    }`,
  );
  sandbox.spire("agent", "run", "-config", "agent.conf");
  const call = await server.out.next((candidate) => candidate.includes('"method":"AttestAgent"'));
  expect(JSON.parse(call)).toMatchObject({ caller_addr: expect.stringMatching(/^127\.0\.0\.1:\d+$/) });
}, 30_000);
