import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AgentConfig } from "../config/agent.ts";
import type { ServerConfig } from "../config/server-config.ts";
import type { Command, Terminal } from "./command.ts";
import { runAgent } from "./run-agent.ts";
import { runServer } from "./run-server.ts";

async function execute(command: Command, args: readonly string[]) {
  let err = "";
  const terminal: Terminal = {
    out: () => {},
    err: (text) => {
      err += text;
    },
    readInput: async () => "",
    untilStopped: () => Promise.resolve(),
    env: {},
  };
  const code = await command.execute(args, terminal, "spire");
  return { code, err };
}

async function serverRun(...args: string[]) {
  let run: ServerConfig | undefined;
  const command = runServer(async ({ config }) => {
    run = config;
    return 0;
  });
  return { ...(await execute(command, args)), run };
}

async function agentRun(...args: string[]) {
  let run: AgentConfig | undefined;
  const command = runAgent(async ({ config }) => {
    run = config;
    return 0;
  });
  return { ...(await execute(command, args)), run };
}

describe("server run", () => {
  const needed = ["-trustDomain", "example.org", "-dataDir", "data"];

  test("takes SPIRE's defaults for what isn't given", async () => {
    expect((await serverRun(...needed)).run).toMatchObject({
      trustDomain: "example.org",
      bindAddress: "0.0.0.0",
      bindPort: 8081,
      socketPath: "/tmp/spire-server/private/api.sock",
      dataDir: "data",
      log: { level: "info", format: "text", file: "" },
    });
  });

  test("lets a flag beat the file, and the file beat the default", async () => {
    const folder = mkdtempSync(join(tmpdir(), "run-server-"));
    try {
      const path = join(folder, "server.conf");
      writeFileSync(path, 'server { trust_domain = "file.test" data_dir = "f" bind_port = 1 } plugins {}');
      const { run } = await serverRun("-config", path, "-trustDomain", "flag.test");
      expect(run).toMatchObject({
        trustDomain: "flag.test",
        dataDir: "f",
        bindPort: 1,
        bindAddress: "0.0.0.0",
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each([
    [["-dataDir", "data"], "trust_domain must be configured\n"],
    [["-trustDomain", "example.org"], "data_dir must be configured\n"],
    [
      [...needed, "-trustDomain", "EXAMPLE.org"],
      'could not parse trust_domain "EXAMPLE.org": trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores (-trustDomain)\n',
    ],
    [
      [...needed, "-serverPort", "70000"],
      'could not resolve bind address "0.0.0.0:70000": address 70000: invalid port (-serverPort: bind_port must be a port number)\n',
    ],
  ])("%p is refused before anything starts", async (args, err) => {
    expect(await serverRun(...args)).toEqual({ code: 1, err, run: undefined });
  });
});

describe("agent run", () => {
  const server = ["-serverAddress", "127.0.0.1", "-serverPort", "8081"];
  const needed = ["-trustDomain", "example.org", ...server, "-insecureBootstrap"];

  test("joins address and port, and keeps nothing without a data directory", async () => {
    const { run } = await agentRun(...needed);
    expect(run).toMatchObject({ serverAddress: "127.0.0.1:8081", bootstrap: { type: "insecure" } });
    expect(run).not.toHaveProperty("dataDir");
    expect((await agentRun(...needed, "-serverAddress", "::1")).run?.serverAddress).toBe("[::1]:8081");
  });

  test("reads the join token from a file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "run-agent-"));
    try {
      writeFileSync(join(folder, "token"), "abc\n");
      expect((await agentRun(...needed, "-joinTokenFile", join(folder, "token"))).run?.joinToken).toBe("abc");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("takes a bundle file in either format", async () => {
    const args = [
      "-trustDomain",
      "example.org",
      ...server,
      "-trustBundle",
      "b",
      "-trustBundleFormat",
      "spiffe",
    ];
    expect((await agentRun(...args)).run?.bootstrap).toEqual({ type: "file", path: "b", format: "spiffe" });
  });

  test.each([
    [["-trustDomain", "example.org", "-serverPort", "1"], "server_address must be configured\n"],
    [["-trustDomain", "example.org", "-serverAddress", "x"], "server_port must be configured\n"],
    [[...server, "-insecureBootstrap"], "trust_domain must be configured\n"],
    [
      ["-trustDomain", "example.org", ...server],
      "trust_bundle_path, trust_bundle_url, or trust_bundle_spiffe_workload_api must be configured unless insecure_bootstrap is set\n",
    ],
    [
      [...needed, "-trustBundle", "b"],
      "only one of insecure_bootstrap or trust_bundle_path can be specified, not both (-trustBundle)\n",
    ],
    [
      ["-trustDomain", "example.org", ...server, "-trustBundle", "b", "-trustBundleFormat", "der"],
      'invalid value for trust_bundle_format, expected "pem" or "spiffe" (-trustBundleFormat)\n',
    ],
    [
      [...needed, "-joinTokenFile", "nope"],
      'unable to read join token file "nope": open nope: no such file or directory (-joinTokenFile)\n',
    ],
  ])("%p is refused before anything starts", async (args, err) => {
    expect(await agentRun(...args)).toEqual({ code: 1, err, run: undefined });
  });
});
