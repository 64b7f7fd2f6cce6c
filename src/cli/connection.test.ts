import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SpireError } from "../core/errors.ts";
import { nullLogger } from "../core/log.ts";
import { HealthService } from "../rpc/gen/grpc/health/v1/health.ts";
import { type Listener, listenUnix } from "../rpc/listen.ts";
import { bindService } from "../rpc/service.ts";
import type { Invocation } from "./command.ts";
import { agentSocketFlags, RpcFailure, serverSocketFlags, withAgent, withServer } from "./connection.ts";
import { parseFlags } from "./flags.ts";

let folder: string;
let listener: Listener;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "connection-"));
  const health = bindService(HealthService, {
    check: async ({ service }) => {
      if (service === "bad") throw new SpireError("NOT_FOUND", "unknown service");
      return { status: 1 };
    },
    watch: async function* () {
      yield { status: 1 };
      throw new SpireError("PERMISSION_DENIED", "no more");
    },
  });
  listener = await listenUnix({
    path: join(folder, "a.sock"),
    mode: 0o600,
    services: [health],
    log: nullLogger,
  });
});
afterAll(async () => {
  await listener.close();
  rmSync(folder, { recursive: true });
});

function invocation(flags: typeof serverSocketFlags, args: string[], env: Record<string, string> = {}) {
  const { values, given, rest } = parseFlags(flags, args);
  const terminal = {
    out: () => {},
    err: () => {},
    readInput: async () => "",
    untilStopped: () => Promise.resolve(),
    env,
  };
  return { flags: values, given, rest, terminal } satisfies Invocation<typeof flags>;
}

const serverCheck = (args: string[], env?: Record<string, string>, service = "") =>
  withServer(invocation(serverSocketFlags, args, env), (channel) =>
    channel.client(HealthService).check({ service }),
  );
const agentCheck = (args: string[], env?: Record<string, string>) =>
  withAgent(invocation(agentSocketFlags, args, env), (channel) =>
    channel.client(HealthService).check({ service: "" }),
  );

describe("the socket is found", () => {
  test("by -socketPath", async () => {
    expect((await serverCheck(["-socketPath", join(folder, "a.sock")])).status).toBe(1);
  });

  test("by the environment's path", async () => {
    const env = { SPIRE_SERVER_PRIVATE_SOCKET: join(folder, "a.sock") };
    expect((await serverCheck([], env)).status).toBe(1);
  });

  test("by an instance's name in the environment's template", async () => {
    const template = { SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE: join(folder, "%i.sock") };
    expect((await serverCheck(["-instance", "a"], template)).status).toBe(1);
    const args = ["-instance", "none", "-socketPath", join(folder, "a.sock")];
    expect((await serverCheck(args, template)).status).toBe(1);
  });

  test("by an instance's name only where the environment has a template for it", () => {
    const { flawIn } = serverSocketFlags.instance;
    const name = "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE";
    expect(flawIn("a", {})).toBe(`you must define ${name} to use the instance flag`);
    expect(flawIn("a", { [name]: "/run/a.sock" })).toBe(`failed to find %i in ${name}`);
    expect(flawIn("a", { [name]: "/run/%i.sock" })).toBeUndefined();
    expect(flawIn("", {})).toBeUndefined();
  });

  test("by the Workload API's own variable, for the agent", async () => {
    const env = { SPIFFE_ENDPOINT_SOCKET: `unix://${join(folder, "a.sock")}` };
    expect((await agentCheck([], env)).status).toBe(1);
  });
});

describe("errors", () => {
  test("of calls are worded as Go's gRPC does, and keep the server's own text", async () => {
    const failure = await serverCheck(["-socketPath", join(folder, "a.sock")], {}, "bad").catch(
      (error) => error,
    );
    expect(failure).toBeInstanceOf(RpcFailure);
    expect(failure).toMatchObject({
      code: "NOT_FOUND",
      message: "rpc error: code = NotFound desc = unknown service",
      description: "unknown service",
    });
  });

  test("that end a stream are worded the same", async () => {
    const args = ["-socketPath", join(folder, "a.sock")];
    const watching = withServer(invocation(serverSocketFlags, args), async (channel) => {
      for await (const _ of channel.client(HealthService).watch({ service: "" }));
    });
    expect(watching).rejects.toThrow("rpc error: code = PermissionDenied desc = no more");
  });

  test("say why a socket can't be reached", () => {
    expect(serverCheck(["-socketPath", join(folder, "none.sock")])).rejects.toThrow(
      `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix ${join(folder, "none.sock")}: connect: no such file or directory"`,
    );
  });
});
