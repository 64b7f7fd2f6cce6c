/** What an agent's configuration file may say (apart from its plugins), as it stands there: unchecked, optional. */
import { z } from "zod";
import { duration, integer, section, sections, text, texts, truth } from "./schema.ts";
import { agentTelemetry, healthChecks, logOptions, profilingOptions } from "./shared-schema.ts";

const perSecond = (method: string) =>
  integer(`${method} calls a second for each set of selectors; 0 = no limit`, {
    default: "0",
    notYet: "rate limits of the agent",
  });

const experimental = section(
  "Options that SPIRE may change or drop",
  {
    sync_interval: duration("How often the agent asks the server for its entries", { default: "5s" }),
    jwt_svid_cache_hit_timeout: duration("How long a JWT-SVID may take before a cached one is given", {
      default: "30s",
      notYet: "the time limit of the JWT-SVID cache",
    }),
    use_sync_authorized_entries: truth("Asks for changes of entries only", {
      default: "true",
      notYet: "to ask for all entries each time",
      off: true,
    }),
    require_pq_kem: truth("Asks for post-quantum key exchange", { notYet: "post-quantum key exchange" }),
    feature_flags: texts("Switches for developers of SPIRE", { notYet: "feature flags" }),
    ratelimit: section("Limits of the Workload API and SDS", {
      fetch_x509_svid: perSecond("FetchX509SVID"),
      fetch_jwt_svid: perSecond("FetchJWTSVID"),
      fetch_x509_bundles: perSecond("FetchX509Bundles"),
      fetch_jwt_bundles: perSecond("FetchJWTBundles"),
      stream_secrets: perSecond("StreamSecrets"),
      fetch_secrets: perSecond("FetchSecrets"),
    }),
    broker: section(
      "SPIFFE Broker API",
      {
        socket_path: text("Unix socket to listen on"),
        bind_address: text("`host:port` to listen on"),
        brokers: sections("Who may call", {
          id: text("SPIFFE ID of the broker"),
          allowed_reference_types: sections("What it may name workloads by", {
            type_url: text("Type of the reference"),
            allow_over_tcp: truth("Also over TCP"),
          }),
        }),
      },
      { notYet: "the Broker API" },
    ),
    named_pipe_name: text("Windows only"),
    admin_named_pipe_name: text("Windows only"),
  },
  { unknownKeys: "ignore" },
);

const agent = section("The agent itself", {
  admin_socket_path: text("Unix socket of the admin APIs; not below the Workload API socket's directory", {
    notYet: "the admin APIs of the agent",
  }),
  allow_unauthenticated_verifiers: truth("Gives bundles to processes without an entry", {
    default: "false",
    notYet: "unauthenticated verifiers",
  }),
  allowed_foreign_jwt_claims: texts("Claims that ValidateJWTSVID shows of tokens of other trust domains"),
  authorized_delegates: texts("SPIFFE IDs that may use the Delegated Identity API", {
    notYet: "the Delegated Identity API",
  }),
  availability_target: duration("How long identities should last without the server; at least 24h", {
    notYet: "availability targets",
  }),
  data_dir: text("Directory for the agent's data", { default: "." }),
  disable_workload_api: truth("Doesn't serve the Workload API", {
    default: "false",
    notYet: "to run without the Workload API",
  }),
  disable_sds_api: truth("Doesn't serve the SDS API", {
    default: "false",
    noEffect: "the SDS API is not served yet",
  }),
  experimental,
  insecure_bootstrap: truth("Believes the first server that it meets; not for production", {
    default: "false",
  }),
  join_token: text("Token to attest with"),
  join_token_file: text("File with that token"),
  jwt_svid_cache_max_size: integer("How many JWT-SVIDs are kept", { default: "1000" }),
  ...logOptions,
  log_selectors: texts("Selectors to log of workloads", { notYet: "selectors in logs" }),
  ...profilingOptions,
  rebootstrap_mode: text("When to bootstrap again: `never`, `auto` or `always`", {
    default: "never",
    notYet: "to bootstrap again",
    off: "never",
  }),
  rebootstrap_delay: duration("How long the server must be unknown before that", {
    default: "10m",
    noEffect: "the agent doesn't bootstrap again",
  }),
  sds: section(
    "Names in the SDS API",
    {
      default_svid_name: text("Name of the default SVID", { default: "default" }),
      default_bundle_name: text("Name of the default bundle", { default: "ROOTCA" }),
      default_all_bundles_name: text("Name of all bundles", { default: "ALL" }),
      disable_spiffe_cert_validation: truth("Envoy's own validation only", { default: "false" }),
    },
    { unknownKeys: "ignore", noEffect: "the SDS API is not served yet" },
  ),
  server_address: text("Host name or IP address of the server; required"),
  server_port: integer("Port of the server; required"),
  socket_path: text("Unix socket of the Workload API", { default: "/tmp/spire-agent/public/api.sock" }),
  trust_bundle_path: text("File with the server's authorities"),
  trust_bundle_format: text("`pem` or `spiffe`", { default: "pem" }),
  trust_bundle_url: text("Where to download them, `https://…`", { notYet: "to download the bundle" }),
  trust_bundle_unix_socket: text("Unix socket to download them over", { notYet: "to download the bundle" }),
  trust_bundle_spiffe_workload_api: text("Workload API to take them from", {
    notYet: "to take the bundle from a Workload API",
  }),
  trust_domain: text("Trust domain; required"),
  workload_x509_svid_key_type: text("Key type of X.509-SVIDs: `ec-p256`, `ec-p384` or `rsa-2048`", {
    default: "ec-p256",
  }),
  x509_svid_cache_max_size: integer("How many X.509-SVIDs are kept beyond those in use", { default: "1000" }),
});

export const agentFile = z.strictObject({ agent, telemetry: agentTelemetry, health_checks: healthChecks });

/** The file as it stands; nothing in it is checked but types. */
export type RawAgentFile = z.infer<typeof agentFile>;
