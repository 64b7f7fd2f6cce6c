/** The development mode's composition root: a server and an agent in one process, joined by their real protocols. */
import { createHash } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../core/clock.ts";
import type { Entry } from "../core/entry.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { parseTrustDomain, type SpiffeId, type TrustDomain } from "../core/spiffe-id.ts";
import { formatPemBundle } from "../core/trust-bundle.ts";
import { createNameTable } from "../plugins/workload-attestors/unix-names.ts";
import type { Registry } from "../server/registry.ts";
import { type RunningAgent, startAgent } from "./agent.ts";
import { chooseAgentId, createAgentTokens } from "./dev/agent-id.ts";
import { type EntryOwner, parseEntryOption, userEntry } from "./dev/declared-entries.ts";
import { currentUid, ownInstancesDirectory, takeRunDirectory } from "./dev/instances.ts";
import { agentSettings, requireLoopback, serverSettings } from "./dev/settings.ts";
import { openSocketDirectory, socketUri } from "./dev/socket-directory.ts";
import { openPersistentState, openTemporaryState, type StateDirectory } from "./dev/state-directory.ts";
import { type RunningServer, startServer } from "./server.ts";

export interface DevSettings {
  /** Undefined = that of the state directory, else `example.org`. */
  readonly trustDomain?: TrustDomain;
  /** Where the state is kept; undefined = in the instance's own directory, keys in memory only. */
  readonly dataDir?: string;
  /** Undefined = the instance's own directory. */
  readonly socketDir?: string;
  /** A loopback address. */
  readonly bindAddress: string;
  /** 0 = a free one. */
  readonly port: number;
  /** Undefined = `dev`, `dev-2`, … */
  readonly name?: string;
  /** Texts of `ID=selector[,selector]`. */
  readonly entries: readonly string[];
  readonly entriesFile?: string;
  readonly version: string;
}

export interface RunningDev {
  readonly name: string;
  readonly trustDomain: TrustDomain;
  readonly workloadApiSocket: string;
  readonly serverSocket: string;
  /** `host:port`. */
  readonly serverAddress: string;
  readonly agentId: SpiffeId;
  /** The trust domain's X.509 authorities as PEM; kept current. */
  readonly bundlePath: string;
  /** Lowercase hex. */
  readonly caSha256: string;
  /** What the agent hands out, in the order of declaration. */
  readonly entries: readonly Entry[];
  /** What a client's environment should hold. */
  readonly env: Readonly<Record<string, string>>;
  /** Set when the sockets lie in another directory than asked for, because of their paths' length. */
  readonly fallbackDirectory?: string;
  /** Resolves when the instance can't go on: with the reason, or undefined after `close`. */
  readonly stopped: Promise<SpireError | undefined>;
  /** Ends everything and removes all files but a state directory's. */
  close(): Promise<void>;
}

interface DevDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

type Closer = () => Promise<void> | void;

const defaultTrustDomain = parseTrustDomain("example.org");

/**
 * Resolves once a workload can fetch its SVID.
 * @throws SpireError when a setting is refused or something is in the way; then nothing is left behind.
 */
export async function startDev(settings: DevSettings, deps: DevDeps): Promise<RunningDev> {
  const closers: Closer[] = [];
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= closeAll(closers, deps.log);
    return closing;
  };
  try {
    return { ...(await assemble(settings, deps, closers)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The last opened first. One that fails must not keep the others from being closed. */
async function closeAll(closers: readonly Closer[], log: Logger): Promise<void> {
  for (const close of closers.toReversed()) {
    try {
      await close();
    } catch (error) {
      log.error("could not end cleanly", { error });
    }
  }
}

async function assemble(
  settings: DevSettings,
  deps: DevDeps,
  closers: Closer[],
): Promise<Omit<RunningDev, "close">> {
  const bindAddress = requireLoopback(settings.bindAddress);
  const run = takeRunDirectory(ownInstancesDirectory(), settings.name);
  closers.push(() => run.release());
  const state =
    settings.dataDir === undefined ? openTemporaryState(run.path) : openPersistentState(settings.dataDir);
  closers.push(() => state.release());
  const sockets = openSocketDirectory(settings.socketDir ?? run.path);
  closers.push(() => sockets.release());
  const trustDomain = trustDomainOf(settings, state);
  // The marker comes first: a state directory must never look like a real server's.
  const kept = state.record ?? { trust_domain: trustDomain, agent_id: "", file_entries: [] };
  if (!state.record) await state.save(kept);

  const places = { state, sockets, version: settings.version };
  const tokens = createAgentTokens();
  const server = await startServer(
    { ...serverSettings(places, trustDomain, bindAddress, settings.port), joinTokenName: tokens.nameOf },
    deps,
  );
  closers.push(() => server.close());
  const { registry } = server;
  const owner = { trustDomain, agentId: await chooseAgentId(registry, trustDomain, kept.agent_id) };
  const record = { ...kept, agent_id: owner.agentId };
  if (kept.agent_id !== owner.agentId) await state.save(record);

  await seedEntries(registry, settings, owner);
  if (settings.entriesFile !== undefined) {
    // Loaded when needed: reading YAML costs milliseconds of every start.
    const { createEntriesSource, readEntriesFile } = await import("./dev/entries-source.ts");
    const source = createEntriesSource({
      path: settings.entriesFile,
      owner,
      registry,
      owned: record.file_entries,
      remember: (file_entries) => state.save({ ...record, file_entries }),
      ...deps,
    });
    await source.apply(readEntriesFile(settings.entriesFile, owner));
    source.follow();
    closers.push(() => source.close());
  }

  const agent = await startAgent(
    {
      ...agentSettings(places, server),
      joinToken: () => tokens.create(owner.agentId, registry),
      bootstrap: { type: "bundle", bundle: () => server.bundle() },
    },
    deps,
  );
  closers.push(() => agent.close());
  const bundlePath = join(state.path, "bundle.pem");
  followServer(server, agent, owner, bundlePath);

  const env = {
    SPIFFE_ENDPOINT_SOCKET: socketUri(sockets.workloadApi),
    SPIRE_AGENT_PUBLIC_SOCKET: sockets.workloadApi,
    SPIRE_SERVER_PRIVATE_SOCKET: sockets.server,
  };
  run.publish({
    name: run.name,
    pid: process.pid,
    trust_domain: trustDomain,
    server_address: server.address,
    env,
    ...(sockets.fallback === undefined ? {} : { temporary_directory: sockets.fallback }),
  });
  return {
    name: run.name,
    trustDomain,
    workloadApiSocket: sockets.workloadApi,
    serverSocket: sockets.server,
    serverAddress: server.address,
    agentId: owner.agentId,
    bundlePath,
    caSha256: fingerprintOf(server),
    entries: registry.index.forAgent(owner.agentId),
    env,
    ...(sockets.fallback === undefined ? {} : { fallbackDirectory: sockets.fallback }),
    stopped: agent.stopped,
  };
}

/** A state directory belongs to one trust domain. @throws SpireError FAILED_PRECONDITION when another is asked for. */
function trustDomainOf({ trustDomain }: DevSettings, { record, path }: StateDirectory): TrustDomain {
  if (!record) return trustDomain ?? defaultTrustDomain;
  const kept = parseTrustDomain(record.trust_domain);
  if (trustDomain === undefined || trustDomain === kept) return kept;
  throw new SpireError(
    "FAILED_PRECONDITION",
    `state directory ${path} belongs to trust domain "${kept}", not "${trustDomain}"`,
  );
}

/** @throws SpireError INVALID_ARGUMENT with the option that is wrong. */
async function seedEntries(registry: Registry, settings: DevSettings, owner: EntryOwner): Promise<void> {
  const drafts = settings.entries.map((text) => parseEntryOption(text, owner));
  if (drafts.length === 0 && settings.entriesFile === undefined && registry.index.entryCount === 0) {
    drafts.push(userEntry({ uid: currentUid(), name: userName() }, owner));
  }
  for (const outcome of await registry.createEntries(drafts)) {
    if ("error" in outcome) throw outcome.error.within("--entry");
  }
}

/** From /etc/passwd, else what the login set; undefined where there is neither, as in many containers. */
function userName(): string | undefined {
  const names = createNameTable("/etc/passwd");
  if (names.version() === "") return process.env["USER"];
  return names.nameOf(String(currentUid())) ?? process.env["USER"];
}

/** Each change reaches the agent at once; a changed bundle reaches its file. */
function followServer(
  server: RunningServer,
  agent: RunningAgent,
  owner: EntryOwner,
  bundlePath: string,
): void {
  let written = "";
  const writeBundle = () => {
    const text = formatPemBundle(server.bundle());
    if (text === written) return;
    written = text;
    writeFileSync(`${bundlePath}.new`, text, { mode: 0o644 });
    renameSync(`${bundlePath}.new`, bundlePath);
  };
  writeBundle();
  server.onChange((agents) => {
    if (agents === "all") writeBundle();
    if (agents === "all" || agents.has(owner.agentId)) agent.nudge();
  });
  // What changed while the agent took its first look.
  agent.nudge();
}

function fingerprintOf(server: RunningServer): string {
  return createHash("sha256")
    .update(server.activeAuthority() ?? new Uint8Array())
    .digest("hex");
}
