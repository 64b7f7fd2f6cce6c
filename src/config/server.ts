/** A server's configuration: raw values > settings that hold, or the first thing that is wrong with them. */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { SpireError } from "../core/errors.ts";
import { quote } from "../core/go-text.ts";
import type { KeyType } from "../core/keys.ts";
import { parseSpiffeId, type SpiffeId } from "../core/spiffe-id.ts";
import { type Checks, createChecks } from "./checks.ts";
import { readFederation } from "./federation.ts";
import { type ConfigFile, readServerFile } from "./file.ts";
import { type Findings, findingsOf } from "./findings.ts";
import type { Sources } from "./origin.ts";
import { type PluginProblem, pluginProblems } from "./plugin-problems.ts";
import type { PluginConfig } from "./plugins.ts";
import type { CaSubject, NodeAttestorConfig, ServerConfig } from "./server-config.ts";
import { type RawServerFile, serverFile } from "./server-schema.ts";

/** What came of reading a configuration whose options hold. */
export interface Loaded<Config> extends Findings {
  readonly config: Config;
  readonly pluginProblems: readonly PluginProblem[];
}

/** @throws SpireError with SPIRE's message, place and remedy, for the first option that doesn't hold. */
export async function loadServer(sources: Sources): Promise<Loaded<ServerConfig>> {
  const file = readServerFile(sources);
  const checks = createChecks(file.origin);
  const settings = checkServer(file, checks);
  if (sources.path !== undefined && !file.plugins)
    throw file.origin.problem("plugins section must be configured", "");
  const raw = file.raw.server?.federation;
  const federation = raw && readFederation(raw, settings.trustDomain, file.origin, checks);
  const config = {
    ...settings,
    ...serverPlugins(file.plugins, settings.dataDir),
    ...(federation && { federation }),
  };
  await resolveBindAddress(config, file);
  return {
    config,
    ...findingsOf(serverFile, file),
    pluginProblems: file.plugins ? pluginProblems("server", file.plugins, file.origin) : [],
  };
}

type Raw = NonNullable<RawServerFile["server"]>;

const authorityTypes: readonly KeyType[] = ["rsa-2048", "rsa-4096", "ec-p256", "ec-p384"];

function checkServer({ raw, origin }: ConfigFile<RawServerFile>, checks: Checks) {
  const server: Raw = raw.server ?? {};
  const { required } = checks;
  const bindAddress = required(server.bind_address ?? "0.0.0.0", "server.bind_address");
  required(server.trust_domain, "server.trust_domain");
  const dataDir = required(server.data_dir, "server.data_dir");
  const log = checks.log(server, "server");
  const caKeyType = readKeyType(checks, server.ca_key_type, "ca_key_type", "ec-p256");
  const optional = checkOptional(server, checks);
  checkMoot(server, checks);
  if (server.experimental?.named_pipe_name) {
    const message =
      "invalid configuration: named_pipe_name is not supported in this platform; please use socket_path instead";
    throw origin.problem(message, "server.experimental.named_pipe_name");
  }
  return {
    trustDomain: checks.trustDomain(server.trust_domain, "server.trust_domain"),
    bindAddress,
    bindPort: checks.port(server.bind_port ?? 8081, "server.bind_port", 0),
    socketPath: required(server.socket_path ?? "/tmp/spire-server/private/api.sock", "server.socket_path"),
    dataDir,
    log,
    adminIds: readAdminIds(server.admin_ids ?? [], { origin }),
    caKeyType,
    jwtKeyType: readKeyType(checks, server.jwt_key_type, "jwt_key_type", caKeyType),
    disableJwtSvids: server.disable_jwt_svids ?? false,
    rateLimit: {
      attestation: server.ratelimit?.attestation ?? true,
      signing: server.ratelimit?.signing ?? true,
    },
    ...optional,
    ...(server.jwt_issuer && { jwtIssuer: server.jwt_issuer }),
    ...(server.ca_subject && { caSubject: readSubject(server.ca_subject) }),
  };
}

function readKeyType(checks: Checks, value: string | undefined, option: string, otherwise: KeyType): KeyType {
  if (!value) return otherwise;
  return checks.keyType(value, `server.${option}`, `error parsing ${option}: `, authorityTypes);
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
function checkMoot(server: Raw, { durationMs, keyType }: Checks): void {
  const staleness = server.max_attested_node_info_staleness;
  const text = `could not parse max attested node staleness ${quoted(staleness)}`;
  durationMs(staleness, "server.max_attested_node_info_staleness", text);
  const expired = "prune_attested_nodes_expired_for";
  durationMs(server.prune_attested_nodes_expired_for, `server.${expired}`, `could not parse ${expired}`);
  const { experimental = {} } = server;
  for (const [option, name] of Object.entries(experimentalDurations)) {
    const path = `server.experimental.${option}`;
    durationMs(experimental[option as keyof typeof experimentalDurations], path, `could not parse ${name}`);
  }
  const { wit_key_type: wit } = experimental;
  if (wit) keyType(wit, "server.experimental.wit_key_type", "error parsing wit_key_type: ", authorityTypes);
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
    nodeAttestors: enabled
      .filter(({ kind }) => kind === "NodeAttestor")
      .flatMap(({ name }) => nodeAttestor(name)),
  };
}

const nodeAttestor = (name: string): readonly NodeAttestorConfig[] =>
  name === "join_token" ? [{ type: name }] : [];

/** Without a file: tokens, and everything in the data directory. */
const pluginsByDefault = (dataDir: string) => ({
  keyManager: { type: "disk", keysPath: `${dataDir}/keys.json` } as const,
  dataStore: { type: "sqlite", path: `${dataDir}/datastore.sqlite3` } as const,
  nodeAttestors: [{ type: "join_token" } as const],
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
  const host = bindAddress.replace(/^\[(.*)\]$/, "$1");
  if (isIP(host) !== 0) return;
  try {
    if (!/^[\w.-]+$/.test(host)) throw new Error("no name has such characters");
    await lookup(host);
  } catch {
    const message = `could not resolve bind address "${bindAddress}:${bindPort}": lookup ${host}: no such host`;
    throw origin.problem(
      message,
      "server.bind_address",
      "write an IP address of this machine, or 0.0.0.0 for all",
    );
  }
}
