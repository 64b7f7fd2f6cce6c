/** A server as a process among others: logrotate, systemd, probes, reloads, and an end while clients hold on. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dialUnix } from "../../src/rpc/dial.ts";
import { HealthService } from "../../src/rpc/gen/grpc/health/v1/health.ts";
import { createSandbox, program, type Running, type Sandbox } from "../dev/program.ts";
import { failureOf } from "../server/failure.ts";
import { listenForNotifications } from "./notify-socket.ts";

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = createSandbox();
});
afterEach(() => sandbox.close());

const path = (name: string) => join(sandbox.directory, name);

interface Options {
  /** Of the section `server`. */
  readonly options?: string;
  /** Other sections. */
  readonly sections?: string;
  readonly attestor?: string;
  readonly env?: Readonly<Record<string, string>>;
}

function startServer({
  options = "",
  sections = "",
  attestor = "plugin_data {}",
  env = {},
}: Options = {}): Running {
  const text = `server {
    trust_domain = "example.org"
    data_dir = "data"
    bind_address = "127.0.0.1"
    bind_port = 0
    socket_path = "api.sock"
    ${options}
  }
  plugins {
    DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "data/db.sqlite3" } }
    KeyManager "disk" { plugin_data { keys_path = "data/keys.json" } }
    NodeAttestor "join_token" { ${attestor} }
  }
  ${sections}`;
  writeFileSync(path("server.conf"), text);
  return sandbox.start([...program, "server", "run", "-config", "server.conf"], env);
}

const started = (server: Running) =>
  server.out.next((line) => line.includes('Starting Server APIs" address="127'));

/** Resolves once the file holds the text. The runtime's watchers miss changes, so it is looked at again and again. */
async function untilWritten(name: string, text: string): Promise<void> {
  while (!existsSync(path(name)) || !readFileSync(path(name), "utf8").includes(text)) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("SIGUSR2 goes on in a new log file, and a file that can't be made is no end", async () => {
  const server = startServer({ options: 'log_file = "logs/server.log"' });
  // The directory is missing: nothing has started.
  expect(await server.ended).toBe(1);
  expect(await server.err.all()).toContain("open logs/server.log: no such file or directory");
  expect(existsSync(path("data"))).toBe(false);

  const again = startServer({ options: 'log_file = "server.log"' });
  await untilWritten("server.log", 'Starting Server APIs" address="127');
  renameSync(path("server.log"), path("server.log.1"));
  again.kill("SIGUSR2");
  await untilWritten("server.log", "");
  again.kill("SIGUSR1");
  await untilWritten("server.log", "Reconfigure signal received");
  expect(readFileSync(path("server.log.1"), "utf8")).not.toContain("Reconfigure");
  again.kill("SIGTERM");
  expect(await again.ended).toBe(0);
  expect(readFileSync(path("server.log"), "utf8")).toContain("Server stopped gracefully");
});

test("SIGUSR1 reads files with plugins' options anew, and says what came of each", async () => {
  writeFileSync(path("token.conf"), "");
  const server = startServer({ attestor: 'plugin_data_file = "token.conf"' });
  await started(server);
  const reload = async (text: string | undefined) => {
    if (text === undefined) rmSync(path("token.conf"));
    else writeFileSync(path("token.conf"), text);
    server.kill("SIGUSR1");
    return server.out.next((line) => /Plugin |Failed to reconfigure/.test(line));
  };
  expect(await reload("")).toContain('msg="Plugin not reconfigured since the config is unchanged"');
  expect(await reload("# nothing yet\n")).toContain('msg="Plugin reconfigured"');
  expect(await reload("bogus = 1")).toContain('unknown setting \\"bogus\\" encountered');
  expect(await reload("bogus = {")).toContain('msg="Failed to reconfigure plugin"');
  expect(await reload(undefined)).toContain("open token.conf: no such file or directory");
  expect(await reload("# nothing yet\n")).toContain("unchanged");
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
});

test("a start that hasn't come far survives SIGUSR1 and SIGUSR2", async () => {
  const server = startServer();
  await server.out.next((line) => line.includes("Configured"));
  server.kill("SIGUSR1");
  server.kill("SIGUSR2");
  await started(server);
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
});

test("health over HTTP is there while the server runs", async () => {
  const server = startServer({
    sections: 'health_checks { listener_enabled = true bind_address = "127.0.0.1" bind_port = "0" }',
  });
  const line = await server.out.next((text) => text.includes("Serving health checks"));
  const address = /127\.0\.0\.1:\d+/.exec(line)?.[0];
  await started(server);
  for (const question of ["live", "ready"]) {
    const answer = await fetch(`http://${address}/${question}`);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe(
      '{"catalog.datastore":{},"server":{},"server.ca":{},"server.ca.rotator":{}}\n',
    );
  }
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  expect((await failureOf(fetch(`http://${address}/live`))).message).not.toBe("");
});

test("an agent that hasn't found its server is alive, and not ready", async () => {
  writeFileSync(
    path("agent.conf"),
    `agent {
      trust_domain = "example.org" data_dir = "agent" server_address = "127.0.0.1" server_port = 1
      socket_path = "public/api.sock" insecure_bootstrap = true join_token = "none"
    }
    plugins {
      NodeAttestor "join_token" { plugin_data {} }
      KeyManager "memory" { plugin_data {} }
      WorkloadAttestor "unix" { plugin_data {} }
    }
    health_checks { listener_enabled = true bind_address = "127.0.0.1" bind_port = "0" }`,
  );
  const agent = sandbox.start([...program, "agent", "run", "-config", "agent.conf"]);
  const line = await agent.out.next((text) => text.includes("Serving health checks"));
  const address = /127\.0\.0\.1:\d+/.exec(line)?.[0];
  expect((await fetch(`http://${address}/live`)).status).toBe(200);
  const ready = await fetch(`http://${address}/ready`);
  expect(ready.status).toBe(500);
  expect(await ready.json()).toEqual({ agent: { make_new_x509_err: "the first sync is not done yet" } });
  agent.kill("SIGTERM");
  expect(await agent.ended).toBe(0);
});

test("the service manager hears of start, reload and end, and the watchdog is fed", async () => {
  const socket = listenForNotifications(path("notify.sock"));
  try {
    const server = startServer({ env: { NOTIFY_SOCKET: path("notify.sock"), WATCHDOG_USEC: "20000" } });
    await started(server);
    const heard: string[] = [];
    const until = async (text: string) => {
      while (!heard.some((datagram) => datagram.includes(text))) {
        await new Promise((resolve) => setImmediate(resolve));
        heard.push(...socket.received());
      }
    };
    await until("WATCHDOG=1");
    expect(heard[0]).toMatch(/^READY=1\nSTATUS=Serving example\.org at 127\.0\.0\.1:\d+$/);
    server.kill("SIGUSR1");
    await until("RELOADING=1\nMONOTONIC_USEC=");
    server.kill("SIGTERM");
    await until("STOPPING=1");
    expect(await server.ended).toBe(0);
  } finally {
    socket.close();
  }
});

test("a server that never started tells the service manager nothing", async () => {
  const socket = listenForNotifications(path("notify.sock"));
  try {
    const server = startServer({ options: "bind_address = 1", env: { NOTIFY_SOCKET: path("notify.sock") } });
    expect(await server.ended).toBe(1);
    expect(socket.received()).toEqual([]);
  } finally {
    socket.close();
  }
});

test("streams that clients hold open don't keep a server from its end", async () => {
  const server = startServer();
  await started(server);
  const channels = Array.from({ length: 5 }, () => dialUnix(path("api.sock")));
  const streams = channels.map((channel) => channel.client(HealthService).watch({ service: "" }));
  for (const stream of streams) await stream[Symbol.asyncIterator]().next();
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  expect(await server.out.all()).toContain("Server stopped gracefully");
  for (const channel of channels) channel.close();
});
