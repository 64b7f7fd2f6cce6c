/** An agent's configuration: raw values > settings that hold, or the first thing that is wrong with them. */
import { readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { SpireError } from "../core/errors.ts";
import { quote, systemErrorText } from "../core/go-text.ts";
import type { KeyType } from "../core/keys.ts";
import { parseSpiffeId, type TrustDomain, trustDomainOf } from "../core/spiffe-id.ts";
import { agentFile, type RawAgentFile } from "./agent-schema.ts";
import { type Bootstrap, readBootstrap } from "./bootstrap.ts";
import { type Checks, createChecks, type LogSettings } from "./checks.ts";
import { readAgentFile } from "./file.ts";
import { findingsOf } from "./findings.ts";
import { type HealthConfig, readHealth } from "./health.ts";
import type { Origin, Sources } from "./origin.ts";
import { pluginFilesOf } from "./plugin-files.ts";
import { pluginProblems } from "./plugin-problems.ts";
import type { PluginConfig } from "./plugins.ts";
import type { Loaded } from "./server.ts";
import { readX509popAgent, type X509popAgentConfig } from "./x509pop.ts";

/** Settings that hold. */
export interface AgentConfig {
  readonly trustDomain: TrustDomain;
  /** `host:port`. */
  readonly serverAddress: string;
  readonly socketPath: string;
  /** Undefined = nothing is kept. */
  readonly dataDir?: string;
  readonly keyManager: { readonly type: "memory" } | { readonly type: "disk"; readonly directory: string };
  /** What the agent proves itself by. */
  readonly nodeAttestor: AgentAttestorConfig;
  /** For the node attestor `join_token`. */
  readonly joinToken?: string;
  readonly bootstrap: Bootstrap;
  readonly syncIntervalMs: number;
  readonly unix: { readonly discoverWorkloadPath: boolean; readonly workloadSizeLimit: number };
  readonly x509SvidCacheMaxSize: number;
  readonly jwtSvidCacheMaxSize: number;
  readonly workloadKeyType: KeyType;
  readonly allowedForeignJwtClaims: readonly string[];
  /** Undefined = health isn't served over HTTP. */
  readonly health?: HealthConfig;
  readonly log: LogSettings;
}

/** `type` is the plugin's name. */
export type AgentAttestorConfig = { readonly type: "join_token" } | X509popAgentConfig;

/** @throws SpireError with SPIRE's message, place and remedy, for the first option that doesn't hold. */
export async function loadAgent(sources: Sources): Promise<Loaded<AgentConfig>> {
  const { raw, ...file } = readAgentFile(sources);
  const { origin, plugins } = file;
  if (sources.path !== undefined && !plugins) throw origin.problem("plugins section must be configured", "");
  const settings = checkAgent(raw.agent ?? {}, origin);
  // Without a file, what isn't told where to keep things keeps nothing.
  const dataDir = raw.agent?.data_dir || (sources.path === undefined ? undefined : ".");
  const health = readHealth(raw.health_checks, origin);
  const config = {
    ...settings,
    ...(dataDir !== undefined && { dataDir }),
    ...(plugins ? agentPlugins(plugins) : pluginsByDefault(dataDir)),
    ...(health && { health }),
  };
  return {
    config,
    ...findingsOf(agentFile, { raw, ...file }),
    pluginProblems: plugins ? pluginProblems("agent", plugins, origin) : [],
    pluginFiles: pluginFilesOf("agent", file, (changed) => ({ ...config, ...agentPlugins(changed) })),
  };
}

type Raw = NonNullable<RawAgentFile["agent"]>;

const workloadTypes: readonly KeyType[] = ["rsa-2048", "ec-p256", "ec-p384"];
const day = 86_400_000;

function checkAgent(agent: Raw, origin: Origin) {
  const checks = createChecks(origin);
  const host = checks.required(agent.server_address, "agent.server_address");
  checks.required(agent.server_port ? "given" : undefined, "agent.server_port");
  checks.required(agent.trust_domain, "agent.trust_domain");
  const bootstrap = readBootstrap(agent, origin);
  checkRebootstrap(agent, origin, checks);
  const log = checks.log(agent, "agent");
  const trustDomain = checks.trustDomain(agent.trust_domain, "agent.trust_domain");
  const port = checks.port(agent.server_port ?? 0, "agent.server_port", 1);
  const socketPath = checks.required(
    agent.socket_path ?? "/tmp/spire-agent/public/api.sock",
    "agent.socket_path",
  );
  checkAdminSocket(agent, socketPath, origin);
  checkDelegates(agent.authorized_delegates ?? [], trustDomain, origin);
  checkAvailability(agent, origin, checks);
  refuseNamedPipes(agent, origin);
  const joinToken = readJoinToken(agent, origin);
  const syncFailure = "could not parse synchronization interval";
  const { experimental = {}, workload_x509_svid_key_type: keyType } = agent;
  return {
    trustDomain,
    serverAddress: joinAddress(host, port),
    socketPath,
    bootstrap,
    log,
    syncIntervalMs:
      checks.durationMs(experimental.sync_interval, "agent.experimental.sync_interval", syncFailure) ?? 5_000,
    x509SvidCacheMaxSize: cacheSize(agent.x509_svid_cache_max_size, "x509_svid_cache_max_size", origin),
    jwtSvidCacheMaxSize: cacheSize(agent.jwt_svid_cache_max_size, "jwt_svid_cache_max_size", origin),
    workloadKeyType: keyType
      ? checks.keyType(keyType, "agent.workload_x509_svid_key_type", "", workloadTypes)
      : ("ec-p256" as const),
    allowedForeignJwtClaims: agent.allowed_foreign_jwt_claims ?? [],
    ...(joinToken !== "" && { joinToken }),
  };
}

/** IPv6 addresses stand in brackets (RFC 3986, section 3.2.2). */
const joinAddress = (host: string, port: number): string =>
  host.includes(":") && !host.startsWith("[") ? `[${host}]:${port}` : `${host}:${port}`;

/** 0 = SPIRE's default. */
function cacheSize(value: number | undefined, option: string, origin: Origin): number {
  if (value !== undefined && value < 0)
    throw origin.problem(`${option} should not be negative`, `agent.${option}`);
  return value || 1_000;
}

function checkRebootstrap(agent: Raw, origin: Origin, { durationMs }: Checks): void {
  const { rebootstrap_mode: mode = "never", rebootstrap_delay: delay, insecure_bootstrap: insecure } = agent;
  const path = "agent.rebootstrap_mode";
  if (!["", "never", "auto", "always"].includes(mode)) {
    throw origin.problem(
      `unknown rebootstrap mode specified: ${mode}`,
      path,
      "there are never, auto and always",
    );
  }
  if ((mode === "auto" || mode === "always") && insecure) {
    throw origin.problem("insecure_bootstrap option can not be used with rebootstrapping", path);
  }
  durationMs(delay, "agent.rebootstrap_delay", "error parsing rebootstrap delay duration");
}

/** Whoever mounts the Workload API's directory into a container must not get the admin socket with it. */
function checkAdminSocket({ admin_socket_path: path }: Raw, socketPath: string, origin: Origin): void {
  if (!path) return;
  const way = relative(dirname(resolve(socketPath)), dirname(resolve(path)));
  if (way === ".." || way.startsWith("../")) return;
  const message =
    "admin socket cannot be in the same directory or a subdirectory as that containing the Workload API socket";
  throw origin.problem(message, "agent.admin_socket_path");
}

function checkDelegates(ids: readonly string[], trustDomain: TrustDomain, origin: Origin): void {
  const failure = "error validating authorized delegate";
  for (const text of ids) {
    const refuse = (reason: string) => origin.problem(`${failure}: ${reason}`, "agent.authorized_delegates");
    try {
      if (trustDomainOf(parseSpiffeId(text)) === trustDomain) continue;
    } catch (error) {
      throw refuse(SpireError.from(error).message);
    }
    throw refuse(`SPIFFE ID ${quote(text)} is not a member of trust domain ${quote(trustDomain)}`);
  }
}

function checkAvailability(
  { availability_target: target }: Raw,
  origin: Origin,
  { durationMs }: Checks,
): void {
  const path = "agent.availability_target";
  const milliseconds = durationMs(target, path, "unable to parse availability_target");
  if (milliseconds !== undefined && milliseconds < day) {
    throw origin.problem("availability_target must be at least 24h0m0s", path);
  }
}

function refuseNamedPipes({ experimental = {} }: Raw, origin: Origin): void {
  for (const [option, instead] of [
    ["named_pipe_name", "socket_path"],
    ["admin_named_pipe_name", "admin_socket_path"],
  ] as const) {
    if (!experimental[option]) continue;
    const message = `invalid configuration: ${option} is not supported in this platform; please use ${instead} instead`;
    throw origin.problem(message, `agent.experimental.${option}`);
  }
}

function readJoinToken({ join_token: token = "", join_token_file: file = "" }: Raw, origin: Origin): string {
  const path = "agent.join_token_file";
  if (file === "") return token;
  if (token !== "") {
    throw origin.problem("only one of join_token or join_token_file can be specified, not both", path);
  }
  try {
    return readFileSync(file, "utf8").trim();
  } catch (error) {
    const reason = `open ${file}: ${systemErrorText(error)}`;
    throw origin.problem(`unable to read join token file ${quote(file)}: ${reason}`, path);
  }
}

const joinTokens = { type: "join_token" } as const;

function agentPlugins(plugins: readonly PluginConfig[]) {
  const enabled = plugins.filter((plugin) => plugin.enabled);
  const dataOf = (kind: string, name: string) =>
    enabled.find((plugin) => plugin.kind === kind && plugin.name === name)?.data.value;
  const x509pop = dataOf("NodeAttestor", "x509pop");
  const disk = dataOf("KeyManager", "disk");
  const unix = dataOf("WorkloadAttestor", "unix");
  return {
    nodeAttestor: x509pop ? readX509popAgent(x509pop) : joinTokens,
    keyManager: disk
      ? ({ type: "disk", directory: String(disk["directory"]) } as const)
      : ({ type: "memory" } as const),
    unix: {
      discoverWorkloadPath: unix?.["discover_workload_path"] === true,
      workloadSizeLimit: Number(unix?.["workload_size_limit"] ?? 0),
    },
  };
}

const pluginsByDefault = (dataDir: string | undefined) => ({
  nodeAttestor: joinTokens,
  keyManager:
    dataDir === undefined ? ({ type: "memory" } as const) : ({ type: "disk", directory: dataDir } as const),
  unix: { discoverWorkloadPath: false, workloadSizeLimit: 0 },
});
