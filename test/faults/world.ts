/** A home for one fault test: the programs as child processes, clients of theirs, and a look at all that they wrote. */
import { expect } from "bun:test";
import { chmodSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { makeSpiffeId, parseTrustDomain, type SpiffeId } from "../../src/core/spiffe-id.ts";
import { type Channel, dialUnix } from "../../src/rpc/dial.ts";
import type { X509SVIDResponse } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { Entry } from "../../src/rpc/gen/spire/api/types/entry.ts";
import { createSandbox, type DevReady, type Lines, program, type Running } from "../dev/program.ts";
import { entryMessage, idMessage } from "../server/running.ts";

export const exampleOrg = parseTrustDomain("example.org");
export const uid = String(process.getuid?.());
/** The security header of the Workload API. */
export const asWorkload = { metadata: { "workload.spiffe.io": "true" } };

/** How a program is started: what stands before its own words, and what is added to its environment. */
export interface Launch {
  readonly wrap?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface ServerProcess extends Running {
  readonly dataDir: string;
  readonly socket: string;
  /** Resolves to the TCP port once both listeners answer. @throws Error when the process ends before. */
  ready(): Promise<number>;
}

export interface AgentProcess extends Running {
  readonly socket: string;
}

export interface AgentLaunch extends Launch {
  readonly port: number;
  readonly dataDir: string;
  /** A PEM file. */
  readonly bundle: string;
  readonly token?: string;
}

export interface World {
  readonly directory: string;
  path(name: string): string;
  /** Any program. */
  run(argv: readonly string[], env?: Readonly<Record<string, string>>): Running;
  /** The program with these arguments. */
  spire(...args: string[]): Running;
  /** `server run`; its data are in the folder `name`, its socket is in another. */
  server(name?: string, launch?: Launch): ServerProcess;
  agent(launch: AgentLaunch): AgentProcess;
  /** `dev`, once it is ready. */
  dev(args?: readonly string[], launch?: Launch): Promise<{ running: Running; ready: DevReady }>;
  /** A channel that ends with the world. */
  dial(socket: string): Channel;
  /** Ends everything, and fails when a program wrote what only an unforeseen failure makes it write. */
  close(): Promise<void>;
}

export function createWorld(): World {
  const sandbox = createSandbox();
  const started: Running[] = [];
  const channels: Channel[] = [];
  const path = (name: string) => join(sandbox.directory, name);
  // Open to all: some tests run the programs as another user.
  const sockets = path("sockets");
  mkdirSync(sockets);
  chmodSync(sockets, 0o777);
  const run: World["run"] = (argv, env) => {
    const running = sandbox.start(argv, env);
    started.push(running);
    return running;
  };
  const launchProgram = (args: readonly string[], { wrap = [], env = {} }: Launch) =>
    run([...wrap, ...program, ...args], env);

  return {
    directory: sandbox.directory,
    path,
    run,
    spire: (...args) => launchProgram(args, {}),
    server(name = "server", launch = {}) {
      const dataDir = path(name);
      const socket = join(sockets, `${basename(dataDir)}.sock`);
      const args = ["-trustDomain", exampleOrg, "-dataDir", dataDir, "-socketPath", socket];
      const running = launchProgram(
        ["server", "run", ...args, "-bindAddress", "127.0.0.1", "-serverPort", "0"],
        launch,
      );
      return { ...running, dataDir, socket, ready: () => portOf(running.out) };
    },
    agent({ port, dataDir, bundle, token, ...launch }) {
      const socket = join(sockets, `${basename(dataDir)}.sock`);
      const args = ["-trustDomain", exampleOrg, "-serverAddress", "127.0.0.1", "-serverPort", String(port)];
      args.push("-trustBundle", bundle, "-dataDir", dataDir, "-socketPath", socket);
      if (token !== undefined) args.push("-joinToken", token);
      return { ...launchProgram(["agent", "run", ...args], launch), socket };
    },
    async dev(args = [], launch = {}) {
      const running = launchProgram(["dev", "--output", "json", ...args], launch);
      return { running, ready: JSON.parse(await running.out.next()) };
    },
    dial(socket) {
      const channel = dialUnix(socket);
      channels.push(channel);
      return channel;
    },
    async close() {
      for (const channel of channels) channel.close();
      for (const { kill } of started) kill("SIGKILL");
      const outputs = await Promise.all(
        started.map(async ({ out, err }) => (await out.all()) + (await err.all())),
      );
      await sandbox.close();
      for (const output of outputs) expect(output).not.toMatch(unforeseen);
    },
  };
}

/** What the program, the runtime or the engine say when something happened that nobody planned for. */
const unforeseen =
  /unhandled|unforeseen|uncaught|panic|segmentation fault|\b(Type|Reference|Range|Syntax)Error\b/i;

async function portOf(out: Lines): Promise<number> {
  const line = await out.next((text) => /Starting Server APIs" address="127/.test(text));
  return Number(/127\.0\.0\.1:(\d+)/.exec(line)?.[1]);
}

/** Resolves to whether the event came before the process ended. */
export const cameTo = (event: Promise<unknown>): Promise<boolean> =>
  event.then(
    () => true,
    () => false,
  );

/** Waits for lines with each of the texts, in any order. @throws Error when the stream ends before. */
export async function untilSaid(lines: Lines, ...texts: readonly string[]): Promise<void> {
  const missing = new Set(texts);
  while (missing.size > 0) {
    const line = await lines.next();
    for (const text of missing) if (line.includes(text)) missing.delete(text);
  }
}

/** Ends a program as an operator does. */
export async function stop(running: Running): Promise<void> {
  running.kill("SIGTERM");
  expect(await running.ended).toBe(0);
}

export async function kill(running: Running): Promise<void> {
  running.kill("SIGKILL");
  await running.ended;
}

/** All registration entries, page by page. */
export async function listEntries(channel: Channel): Promise<readonly Entry[]> {
  const client = channel.client(EntryService);
  const found: Entry[] = [];
  let pageToken = "";
  do {
    const page = await client.listEntries({
      filter: undefined,
      outputMask: undefined,
      pageSize: 500,
      pageToken,
    });
    found.push(...page.entries);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

export async function createToken(channel: Channel, ttl = 600): Promise<string> {
  const request = { ttl, token: "", agentId: undefined };
  return (await channel.client(AgentService).createJoinToken(request)).value;
}

export const agentPathOf = (token: string): string => `/spire/agent/join_token/${token}`;
export const agentIdOf = (token: string): SpiffeId => makeSpiffeId(exampleOrg, agentPathOf(token));

/** Creates an entry that gives `path` to this user's processes at the agent. @returns its ID. */
export async function grant(
  channel: Channel,
  agentPath: string,
  path: string,
  fields: Partial<Entry> = {},
): Promise<string> {
  const entry = entryMessage({
    spiffeId: idMessage(path),
    parentId: idMessage(agentPath),
    selectors: [{ type: "unix", value: `uid:${uid}` }],
    ...fields,
  });
  const { results } = await channel
    .client(EntryService)
    .batchCreateEntry({ entries: [entry], outputMask: undefined });
  expect(results[0]?.status?.message).toBe("OK");
  return results[0]?.entry?.id ?? "";
}

/** An open stream of X.509-SVIDs, read on demand. */
export interface SvidStream {
  /** The next update. @throws SpireError that the stream ends with. */
  next(): Promise<X509SVIDResponse>;
  /** Reads until an update fits. */
  until(fits: (update: X509SVIDResponse) => boolean): Promise<X509SVIDResponse>;
  close(): Promise<unknown>;
}

export function openStream(channel: Channel): SvidStream {
  const stream = channel.client(SpiffeWorkloadAPIService).fetchX509Svid({}, asWorkload);
  const updates = stream[Symbol.asyncIterator]();
  const next = async () => {
    const { done, value } = await updates.next();
    if (done) throw new Error("the stream ended");
    return value;
  };
  return {
    next,
    async until(fits) {
      for (;;) {
        const update = await next();
        if (fits(update)) return update;
      }
    },
    close: async () => updates.return?.(undefined),
  };
}

export const pathsOf = ({ svids }: X509SVIDResponse): readonly string[] =>
  svids.map(({ spiffeId }) => spiffeId.replace(`spiffe://${exampleOrg}`, "")).sort();

/**
 * The first update of a stream at an agent that is just being started.
 * @throws Error when the agent ends before it has anything to give.
 */
export async function firstUpdate(world: World, agent: AgentProcess): Promise<X509SVIDResponse> {
  // Said when the socket is open; who connects from then on waits.
  await agent.out.next((line) => /SVID (loaded|is not found)/.test(line));
  const stream = openStream(world.dial(agent.socket));
  const update = await stream.next();
  await stream.close();
  return update;
}
