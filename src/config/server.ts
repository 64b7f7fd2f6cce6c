/** A server's configuration: raw values > settings that hold, or the first thing that is wrong with them. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { SpireError } from "../core/errors.ts";
import { quote } from "../core/go-text.ts";
import { parseIpRanges } from "../core/ip-address.ts";
import type { KeyType } from "../core/keys.ts";
import { parseSpiffeId, type SpiffeId } from "../core/spiffe-id.ts";
import { readBackup, requireKeysToBackUp } from "./backup.ts";
import { type Checks, createChecks } from "./checks.ts";
import { type FeatureFlags, readFeatureFlags } from "./feature-flags.ts";
import { readFederation } from "./federation.ts";
import { type ConfigFile, readServerFile } from "./file.ts";
import { type Findings, findingsOf } from "./findings.ts";
import { readHealth } from "./health.ts";
import { readIssuance } from "./issuance.ts";
import type { Origin, Sources } from "./origin.ts";
import { type PluginFile, pluginFilesOf } from "./plugin-files.ts";
import { type PluginProblem, pluginProblems } from "./plugin-problems.ts";
import type { PluginConfig } from "./plugins.ts";
import type {
  CaSubject,
  NodeAttestorConfig,
  NodePruningConfig,
  ServerConfig,
  WitConfig,
} from "./server-config.ts";
import { type Notice, serverNotices } from "./server-notices.ts";
import { type RawServerFile, serverFile } from "./server-schema.ts";
import { readTelemetry } from "./telemetry.ts";
import { readX509popServer } from "./x509pop.ts";

/** What came of reading a configuration whose options hold. */
export interface Loaded<Config> extends Findings {
  readonly config: Config;
  readonly pluginProblems: readonly PluginProblem[];
  /** What SPIRE logs of it; warnings are besides. */
  readonly notices?: readonly Notice[];
  /** What SIGUSR1 makes a running program read anew. */
  readonly pluginFiles: readonly PluginFile<Config>[];
}

/** @throws SpireError with SPIRE's message, place and remedy, for the first option that doesn't hold. */
export async function loadServer(sources: Sources): Promise<Loaded<ServerConfig>> {
  const file = readServerFile(sources);
  const checks = createChecks(file.origin);
  const { feature_flags: flags = [] } = file.raw.server?.experimental ?? {};
  const features = readFeatureFlags(flags, "server.experimental.feature_flags", file.origin);
  const settings = checkServer(file, checks, features);
  if (sources.path !== undefined && !file.plugins)
    throw file.origin.problem("plugins section must be configured", "");
  const findings = findingsOf(serverFile, file);
  // A key that nobody knows is told before what SPIRE finds out only when it runs.
  const { health_checks: healthChecks, telemetry }: Partial<RawServerFile> =
    findings.refusedKeys.length > 0 ? {} : file.raw;
  const health = readHealth(healthChecks, file.origin);
  const raw = file.raw.server?.federation;
  const federation = raw && readFederation(raw, settings.trustDomain, file.origin, checks);
  const config = {
    ...settings,
    ...serverPlugins(file.plugins, settings.dataDir),
    ...(federation && { federation: federation.config }),
    ...(health && { health }),
    ...(file.raw.server?.backup && { backup: readBackup(file.raw.server.backup, file.origin, checks) }),
    ...(telemetry && { telemetry: readTelemetry(telemetry, file.origin, checks) }),
  };
  requireKeysToBackUp(config, file.origin);
  await resolveBindAddress(config, file);
  return {
    config,
    ...findings,
    warnings: [...features.warnings, ...(federation?.warnings ?? []), ...findings.warnings],
    notices: serverNotices(file.raw.server ?? {}, federation?.config.bundleEndpoint?.refreshHintSeconds),
    pluginProblems: file.plugins ? pluginProblems("server", file.plugins, file.origin) : [],
    pluginFiles: pluginFilesOf("server", file, (plugins) => ({
      ...config,
      ...serverPlugins(plugins, settings.dataDir),
    })),
  };
}

type Raw = NonNullable<RawServerFile["server"]>;

const authorityTypes: readonly KeyType[] = ["rsa-2048", "rsa-4096", "ec-p256", "ec-p384"];

function checkServer({ raw, origin }: ConfigFile<RawServerFile>, checks: Checks, { witSvids }: FeatureFlags) {
  const server: Raw = raw.server ?? {};
  const { required } = checks;
  const bindAddress = server.bind_address || "0.0.0.0";
  const bindPort = readBindPort(server.bind_port ?? 8081, bindAddress, origin);
  required(server.trust_domain, "server.trust_domain");
  const dataDir = required(server.data_dir, "server.data_dir");
  const log = checks.log(server, "server");
  const caKeyType = readKeyType(checks, server.ca_key_type, "ca_key_type", "ec-p256");
  const optional = checkOptional(server, checks);
  checkMoot(server, checks, origin);
  if (server.experimental?.named_pipe_name) {
    const message =
      "invalid configuration: named_pipe_name is not supported in this platform; please use socket_path instead";
    throw origin.problem(message, "server.experimental.named_pipe_name");
  }
  return {
    trustDomain: checks.trustDomain(server.trust_domain, "server.trust_domain"),
    // An IPv6 address may stand in brackets.
    bindAddress: bindAddress.replace(/^[[\]]+|[[\]]+$/g, ""),
    bindPort,
    socketPath: server.socket_path || "/tmp/spire-server/private/api.sock",
    dataDir,
    log,
    proxyProtocolTrustedCidrs: readTrustedProxies(server.proxy_protocol_trusted_cidrs ?? [], origin),
    auditLog: server.audit_log_enabled ?? false,
    adminIds: readAdminIds(server.admin_ids ?? [], { origin }),
    caKeyType,
    jwtKeyType: readKeyType(checks, server.jwt_key_type, "jwt_key_type", caKeyType),
    disableJwtSvids: server.disable_jwt_svids ?? false,
    requirePqKem: server.experimental?.require_pq_kem ?? false,
    agentIdAsSelector: server.experimental?.agent_spiffe_id_as_selector ?? false,
    rateLimit: {
      attestation: server.ratelimit?.attestation ?? true,
      signing: server.ratelimit?.signing ?? true,
    },
    ...optional,
    ...readWit(server, checks, witSvids, caKeyType),
    ...readNodePruning(server, checks),
    ...(server.jwt_issuer && { jwtIssuer: server.jwt_issuer }),
    ...(server.ca_subject && { caSubject: readSubject(server.ca_subject) }),
  };
}

/** 0 is a free port. */
function readBindPort(port: number, bindAddress: string, { problem }: Origin): number {
  if (port >= 0 && port <= 65_535) return port;
  const message = `could not resolve bind address "${bindAddress}:${port}": address ${port}: invalid port`;
  throw problem(message, "server.bind_port", "bind_port must be a port number");
}

function readKeyType(checks: Checks, value: string | undefined, path: string, otherwise: KeyType): KeyType {
  if (!value) return otherwise;
  const option = path.replace(/^.*\./, "");
  return checks.keyType(value, `server.${path}`, `error parsing ${option}: `, authorityTypes);
}

function readWit(server: Raw, checks: Checks, isOn: boolean, caKeyType: KeyType): { wit?: WitConfig } {
  const { wit_key_type: type, wit_issuer: issuer } = server.experimental ?? {};
  const keyType = readKeyType(checks, type, "experimental.wit_key_type", caKeyType);
  return isOn ? { wit: { keyType, ...(issuer && { issuer }) } } : {};
}

/** SPIRE's, and what it takes for a number that is none. */
const defaultPruneBatch = 1_000;

function readNodePruning(server: Raw, { durationMs }: Checks): { nodePruning?: NodePruningConfig } {
  const option = "prune_attested_nodes_expired_for";
  const expiredForMs = durationMs(server[option], `server.${option}`, `could not parse ${option}`);
  if (expiredForMs === undefined) return {};
  const size = server.prune_attested_nodes_batch_size ?? 0;
  const batchSize = size > 0 ? size : defaultPruneBatch;
  return { nodePruning: { expiredForMs, batchSize, includeTofu: server.prune_tofu_nodes ?? false } };
}

const readSubject = (subject: NonNullable<Raw["ca_subject"]>): CaSubject => ({
  country: subject.country ?? [],
  organization: subject.organization ?? [],
  commonName: subject.common_name ?? "",
});

function readAdminIds(texts: readonly string[], { origin }: Pick<ConfigFile<unknown>, "origin">): SpiffeId[] {
  return texts.map((text) => {
    try {
      return parseSpiffeId(text);
    } catch (error) {
      const message = `could not parse admin ID ${quote(text)}: ${SpireError.from(error).message}`;
      throw origin.problem(message, "server.admin_ids", "write an ID such as spiffe://example.org/admin");
    }
  });
}

function readTrustedProxies(cidrs: readonly string[], origin: Origin): readonly string[] {
  for (const cidr of cidrs) {
    try {
      parseIpRanges([cidr]);
    } catch (error) {
      const message = `invalid proxy_protocol_trusted_cidrs value ${quote(cidr)}: ${SpireError.from(error).message}`;
      throw origin.problem(
        message,
        "server.proxy_protocol_trusted_cidrs",
        "write a range such as 10.0.0.0/8, or 192.0.2.7/32 for one address",
      );
    }
  }
  return cidrs;
}

const quoted = (value: string | undefined): string => quote(value ?? "");

function checkOptional(server: Raw, { seconds }: Checks) {
  const agentTtl = seconds(
    server.agent_ttl,
    "server.agent_ttl",
    `could not parse agent ttl ${quoted(server.agent_ttl)}`,
  );
  const { default_x509_svid_ttl: x509, default_jwt_svid_ttl: jwt, ca_ttl: ca } = server;
  return {
    defaultX509SvidTtlSeconds:
      seconds(
        x509,
        "server.default_x509_svid_ttl",
        `could not parse default X509 SVID ttl ${quoted(x509)}`,
      ) ?? 3_600,
    defaultJwtSvidTtlSeconds:
      seconds(jwt, "server.default_jwt_svid_ttl", `could not parse default JWT SVID ttl ${quoted(jwt)}`) ??
      300,
    caTtlSeconds: seconds(ca, "server.ca_ttl", `could not parse default CA ttl ${quoted(ca)}`) ?? 86_400,
    ...(agentTtl !== undefined && { agentTtlSeconds: agentTtl }),
  };
}

/** Options without effect still have to make sense. */
function checkMoot(server: Raw, { anyDuration }: Checks, origin: Origin): void {
  const { experimental = {}, max_attested_node_info_staleness: staleness } = server;
  if (experimental.event_timeout && experimental.sql_transaction_timeout) {
    const message = "both experimental sql_transaction_timeout and event_timeout set, only set event_timeout";
    throw origin.problem(message, "server.experimental.sql_transaction_timeout");
  }
  const text = `could not parse max attested node staleness ${quoted(staleness)}`;
  if (staleness !== undefined) anyDuration(staleness, "server.max_attested_node_info_staleness", text);
  for (const [option, name] of Object.entries(experimentalDurations)) {
    const value = experimental[option as keyof typeof experimentalDurations];
    if (value) anyDuration(value, `server.experimental.${option}`, `could not parse ${name}`);
  }
}

const experimentalDurations = {
  cache_reload_interval: "cache reload interval",
  full_cache_reload_interval: "full cache reload interval",
  prune_events_older_than: "prune events interval",
  event_timeout: "event timeout interval",
  sql_transaction_timeout: "SQL transaction timeout interval",
} as const;

function serverPlugins(plugins: readonly PluginConfig[] | undefined, dataDir: string) {
  if (!plugins) return pluginsByDefault(dataDir);
  const enabled = plugins.filter((plugin) => plugin.enabled);
  const find = (kind: string) => enabled.find((plugin) => plugin.kind === kind);
  const keyManager = find("KeyManager");
  const keysPath = String(keyManager?.data.value["keys_path"] ?? "");
  const connection = String(find("DataStore")?.data.value["connection_string"] ?? "");
  return {
    keyManager:
      keyManager?.name === "disk" ? ({ type: "disk", keysPath } as const) : ({ type: "memory" } as const),
    dataStore: { type: "sqlite", path: sqlitePath(connection) } as const,
    nodeAttestors: enabled.filter(({ kind }) => kind === "NodeAttestor").flatMap(nodeAttestor),
    ...readIssuance(enabled),
  };
}

/** Those that don't run here are refused elsewhere. */
function nodeAttestor({ name, data }: PluginConfig): readonly NodeAttestorConfig[] {
  if (name === "x509pop") return [readX509popServer(data.value)];
  return name === "join_token" ? [{ type: name }] : [];
}

/** Without a file: tokens, and everything in the data directory. */
const pluginsByDefault = (dataDir: string) => ({
  keyManager: { type: "disk", keysPath: `${dataDir}/keys.json` } as const,
  dataStore: { type: "sqlite", path: `${dataDir}/datastore.sqlite3` } as const,
  nodeAttestors: [{ type: "join_token" } as const],
  credentialComposers: [],
});

/** SQLite's URIs name a file, too; what they ask for besides is the driver's business. */
function sqlitePath(connection: string): string {
  if (connection.includes(":memory:") || /[?&]mode=memory/.test(connection)) return ":memory:";
  return connection.replace(/^file:(\/\/)?/, "").replace(/\?.*$/, "");
}

/** A name that can't be resolved is a mistake that only its writer can mend. */
async function resolveBindAddress(
  { bindAddress, bindPort }: { readonly bindAddress: string; readonly bindPort: number },
  { origin }: ConfigFile<RawServerFile>,
): Promise<void> {
  if (isIP(bindAddress) !== 0) return;
  try {
    // The system's resolver would also take 127.1 and 5 for addresses.
    if (!/^[\w.-]+$/.test(bindAddress) || !/[a-z_-]/i.test(bindAddress)) throw new Error("it is no name");
    await lookup(bindAddress);
  } catch {
    const message = `could not resolve bind address "${bindAddress}:${bindPort}": lookup ${bindAddress}: no such host`;
    throw origin.problem(
      message,
      "server.bind_address",
      "write an IP address of this machine, or 0.0.0.0 for all",
    );
  }
}
