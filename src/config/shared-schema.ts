/** Sections that the files of server and agent have in common: logs, profiling, telemetry, health checks. */
import { integer, section, sections, text, texts, truth } from "./schema.ts";

export const logOptions = {
  log_file: text("File to append logs to; standard output if not set"),
  log_format: text("`text` or `json`, in any case", { default: "text" }),
  log_level: text("`panic`, `fatal`, `error`, `warn`, `info`, `debug` or `trace`, in any case", {
    default: "info",
  }),
  log_source_location: truth("Names source file, line and function in log lines", {
    default: "false",
    notYet: "source locations in logs",
  }),
};

export const profilingOptions = {
  profiling_enabled: truth("Profiles the program", { default: "false", notYet: "profiling" }),
  profiling_port: integer("Port of the profiling endpoint"),
  profiling_freq: integer("Seconds between dumps of profiles"),
  profiling_names: texts("Profiles to dump"),
};

const statsd = { address: text("`host:port` of the collector") };

export const telemetry = section("Metrics", {
  Prometheus: section(
    "Serves metrics to Prometheus",
    {
      host: text("Address to listen on", { default: "localhost" }),
      port: integer("Port to listen on"),
      tls: section("Serves them with TLS", {
        cert_file: text("Certificate chain, PEM"),
        key_file: text("Private key, PEM"),
        client_ca_file: text("Authorities of clients, PEM"),
        use_spire_svid: truth("Uses the program's own SVID"),
        authorized_spiffe_ids: texts("SPIFFE IDs of clients that are let in"),
      }),
    },
    { notYet: "metrics for Prometheus" },
  ),
  DogStatsd: sections("DataDog collectors", statsd, { notYet: "metrics for DataDog" }),
  Statsd: sections("Statsd collectors", statsd, { notYet: "metrics for Statsd" }),
  M3: sections("M3 collectors", { ...statsd, env: text("M3 environment") }, { notYet: "metrics for M3" }),
  InMem: section(
    "Metrics in memory, printed on a signal",
    { enabled: truth("Whether they are kept") },
    { noEffect: "no metrics are kept yet" },
  ),
  MetricPrefix: text("Put before names of metrics", { notYet: "metrics" }),
  EnableTrustDomainLabel: truth("Labels metrics with the trust domain", { notYet: "metrics" }),
  EnableHostnameLabel: truth("Labels metrics with the host's name", {
    default: "true",
    noEffect: "no metrics yet",
  }),
  AllowedPrefixes: texts("Metrics to report", { notYet: "metrics" }),
  BlockedPrefixes: texts("Metrics not to report", { notYet: "metrics" }),
  AllowedLabels: texts("Labels to report", { notYet: "metrics" }),
  BlockedLabels: texts("Labels not to report", { notYet: "metrics" }),
});

export const healthChecks = section(
  "Health over HTTP",
  {
    listener_enabled: truth("Whether to listen", { default: "false", notYet: "the health listener" }),
    bind_address: text("Address to listen on", { default: "localhost" }),
    bind_port: text("Port to listen on", { default: "80" }),
    live_path: text("Path of the liveness check", { default: "/live" }),
    ready_path: text("Path of the readiness check", { default: "/ready" }),
  },
  { section: "health check" },
);
