/** Sections that the files of server and agent have in common: logs, profiling, telemetry, health checks. */
import { integer, type OptionFacts, section, sections, text, texts, truth } from "./schema.ts";

export const logOptions = {
  log_file: text("File to append logs to; standard output if not set"),
  log_format: text("`text` or `json`, in any case", { default: "text" }),
  log_level: text("`panic`, `fatal`, `error`, `warn`, `info`, `debug` or `trace`, in any case", {
    default: "info",
  }),
  log_source_location: truth("Names source file, line and function in log lines", {
    default: "false",
    notYet: "the program is one bundle, without source files to name",
  }),
};

export const profilingOptions = {
  profiling_enabled: truth("Profiles the program", {
    default: "false",
    notYet: "profiles; metrics tell time and memory",
  }),
  profiling_port: integer("Port of the profiling endpoint"),
  profiling_freq: integer("Seconds between dumps of profiles"),
  profiling_names: texts("Profiles to dump"),
};

const statsd = { address: text("`host:port` of the collector") };

/** @param facts of what makes a program collect metrics. */
const telemetrySection = (facts: OptionFacts) =>
  section(
    "Metrics",
    {
      Prometheus: section(
        "Serves metrics to Prometheus",
        {
          host: text("Address to listen on", { default: "localhost" }),
          port: integer("Port to listen on"),
          tls: section(
            "Serves them with TLS",
            {
              cert_file: text("Certificate chain, PEM"),
              key_file: text("Private key, PEM"),
              client_ca_file: text("Authorities of clients, PEM"),
              use_spire_svid: truth("Uses the program's own SVID"),
              authorized_spiffe_ids: texts("SPIFFE IDs of clients that are let in"),
            },
            { unknownKeys: "ignore" },
          ),
        },
        { ...facts, unknownKeys: "refuse" },
      ),
      DogStatsd: sections("DataDog collectors", statsd, { ...facts, unknownKeys: "refuse" }),
      Statsd: sections("Statsd collectors", statsd, { ...facts, unknownKeys: "refuse" }),
      M3: sections(
        "M3 collectors",
        { ...statsd, env: text("M3 environment") },
        { notYet: "its protocol; Prometheus, Statsd and DogStatsd are there", unknownKeys: "refuse" },
      ),
      InMem: section(
        "Metrics in memory, printed on a signal",
        {},
        {
          noEffect: "nothing is kept for a signal to print; Prometheus shows metrics at any time",
          unknownKeys: "refuse",
        },
      ),
      MetricPrefix: text("First word of the names of metrics, instead of the program's", facts),
      EnableTrustDomainLabel: truth("Labels metrics with the trust domain", { default: "false", ...facts }),
      EnableHostnameLabel: truth("Labels metrics with the host's name", { default: "true" }),
      AllowedPrefixes: texts("Metrics to report though a shorter blocked prefix fits them", facts),
      BlockedPrefixes: texts("Metrics not to report", facts),
      AllowedLabels: texts("Labels to report; all if not set", facts),
      BlockedLabels: texts("Labels not to report", facts),
    },
    { unknownKeys: "ignore" },
  );

export const telemetry = telemetrySection({});
export const agentTelemetry = telemetrySection({ notYet: "metrics of the agent" });

export const healthChecks = section(
  "Health over HTTP",
  {
    listener_enabled: truth("Whether to listen", { default: "false" }),
    bind_address: text("Address to listen on", { default: "localhost" }),
    bind_port: text("Port to listen on", { default: "80" }),
    live_path: text("Path of the liveness check", { default: "/live" }),
    ready_path: text("Path of the readiness check", { default: "/ready" }),
  },
  { section: "health check" },
);
