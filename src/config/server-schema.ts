/** What a server's configuration file may say (apart from its plugins), as it stands there: unchecked, optional. */
import { z } from "zod";
import { duration, integer, named, section, text, texts, truth } from "./schema.ts";
import { healthChecks, logOptions, profilingOptions, telemetry } from "./shared-schema.ts";

const keyTypes = "`rsa-2048`, `rsa-4096`, `ec-p256` or `ec-p384`";
const liveIndex = "entries are indexed in memory and follow every change at once; nothing is reloaded";

const acme = section(
  "Certificate by ACME",
  {
    directory_url: text("Directory of the ACME service", { default: "Let's Encrypt" }),
    domain_name: text("Domain name to certify"),
    email: text("Contact for the ACME account"),
    tos_accepted: truth("Accepts the terms of service", { default: "false" }),
  },
  { section: "bundle endpoint ACME", unknownKeys: "refuse" },
);

const bundleEndpoint = section(
  "Serves the trust bundle to other trust domains",
  {
    address: text("Address to listen on", { default: "0.0.0.0" }),
    port: integer("Port to listen on"),
    refresh_hint: duration("How often others should fetch it", { default: "5m" }),
    acme,
    profile: section(
      "How clients know that it is this server",
      {
        https_spiffe: section("By its SVID", {}),
        https_web: section("By a certificate of the web", {
          acme,
          serving_cert_file: section("Certificate from files", {
            cert_file_path: text("Certificate chain, PEM"),
            key_file_path: text("Private key, PEM"),
            file_sync_interval: duration("How often the files are looked at", { default: "1h" }),
          }),
        }),
      },
      { unknownKeys: "ignore" },
    ),
  },
  { section: "bundle endpoint", unknownKeys: "refuse" },
);

const federatesWith = named(
  "Trust domains whose bundles are fetched",
  {
    bundle_endpoint_url: text("Where its bundle is, `https://…`"),
    bundle_endpoint_profile: section(
      "How its server is known",
      {
        https_web: section("By a certificate of the web", {}),
        https_spiffe: section("By its SVID", { endpoint_spiffe_id: text("SPIFFE ID of its server") }),
      },
      { unknownKeys: "ignore" },
    ),
  },
  { unknownKeys: "ignore" },
);

const experimental = section(
  "Options that SPIRE may change or drop",
  {
    agent_spiffe_id_as_selector: truth("Gives agents a selector `spiffe_id:<their SPIFFE ID>`", {
      default: "false",
    }),
    auth_opa_policy_engine: section(
      "Decides by a policy of the operator who may call what",
      {
        local: section("Policy from files", {
          rego_path: text("Policy in Rego"),
          policy_data_path: text("Data for the policy, JSON"),
        }),
      },
      { notYet: "nothing that npm brings evaluates Rego; SPIRE's default policy is in force" },
    ),
    cache_reload_interval: duration("How often SPIRE reloads entries", {
      default: "5s",
      noEffect: liveIndex,
    }),
    full_cache_reload_interval: duration("How often SPIRE reloads all entries", {
      default: "24h",
      noEffect: liveIndex,
    }),
    events_based_cache: truth("Whether SPIRE follows events", { default: "false", noEffect: liveIndex }),
    prune_events_older_than: duration("How long SPIRE keeps events", { default: "12h", noEffect: liveIndex }),
    event_timeout: duration("How long SPIRE waits for missing events", {
      default: "15m",
      noEffect: liveIndex,
    }),
    sql_transaction_timeout: duration("Former name of event_timeout", { noEffect: liveIndex }),
    require_pq_kem: truth("Refuses connections without post-quantum key exchange (X25519MLKEM768)", {
      default: "false",
    }),
    wit_key_type: text(`Key type of WIT authorities: ${keyTypes}; ca_key_type if not set`),
    wit_issuer: text("`iss` claim of WIT-SVIDs"),
    feature_flags: texts("What SPIRE's developers still work on: `wit-svid` issues WIT-SVIDs"),
    named_pipe_name: text("Windows only"),
  },
  { unknownKeys: "ignore" },
);

const server = section("The server itself", {
  admin_ids: texts("SPIFFE IDs, also of other trust domains, that may call all APIs"),
  agent_ttl: duration("Lifetime of agents' SVIDs; default_x509_svid_ttl if not set"),
  audit_log_enabled: truth("Logs every call and its outcome", { default: "false" }),
  backup: section(
    "Backups on a schedule, each proven by a restore; an extension, which stock SPIRE refuses",
    {
      directory: text("Directory for the files; required, made with mode 0700 when missing"),
      interval: duration("How often one is made", { default: "24h" }),
      keep: integer("How many are kept; older ones are removed", { default: "7" }),
      with_keys: truth("Includes the CA keys of the key manager `disk`", { default: "false" }),
    },
    { section: "backup" },
  ),
  bind_address: text("Address of the API for agents and administrators", { default: "0.0.0.0" }),
  bind_port: integer("Port of that API", { default: "8081" }),
  ca_key_type: text(`Key type of X.509 authorities: ${keyTypes}`, { default: "ec-p256" }),
  ca_subject: section("Subject of CA certificates", {
    country: texts("Countries", { default: '["US"]' }),
    organization: texts("Organizations", { default: '["SPIFFE"]' }),
    common_name: text("Common name"),
  }),
  ca_ttl: duration("Lifetime of authorities", { default: "24h" }),
  data_dir: text("Directory for the server's data; required"),
  default_x509_svid_ttl: duration("Lifetime of X.509-SVIDs whose entry has none", { default: "1h" }),
  default_jwt_svid_ttl: duration("Lifetime of JWT-SVIDs whose entry has none", { default: "5m" }),
  disable_jwt_svids: truth("Issues no JWT-SVIDs", { default: "false" }),
  experimental,
  federation: section(
    "Exchange of bundles with other trust domains",
    { bundle_endpoint: bundleEndpoint, federates_with: federatesWith },
    { unknownKeys: "ignore" },
  ),
  jwt_issuer: text("`iss` claim of JWT-SVIDs"),
  jwt_key_type: text(`Key type of JWT authorities: ${keyTypes}; ca_key_type if not set`),
  ...logOptions,
  max_attested_node_info_staleness: duration("How old SPIRE's copy of an agent's row may be", {
    default: "0s",
    noEffect: "agents' rows are never stale",
  }),
  ...profilingOptions,
  proxy_protocol_trusted_cidrs: texts(
    "Ranges of IP addresses of load balancers, whose PROXY headers (version 1 or 2) are believed",
  ),
  prune_attested_nodes_expired_for: duration("Removes agents that expired this long ago, about once an hour"),
  prune_attested_nodes_batch_size: integer("How many agents are removed at once", { default: "1000" }),
  prune_tofu_nodes: truth("Removes also agents that can't attest again", { default: "false" }),
  ratelimit: section("Limits for each IP address", {
    attestation: truth("Limits attestations", { default: "true" }),
    signing: truth("Limits signing", { default: "true" }),
  }),
  socket_path: text("Unix socket of the API for administrators", {
    default: "/tmp/spire-server/private/api.sock",
  }),
  trust_domain: text("Trust domain; required"),
});

export const serverFile = z.strictObject({ server, telemetry, health_checks: healthChecks });

/** The file as it stands; nothing in it is checked but types. */
export type RawServerFile = z.infer<typeof serverFile>;
