/** The `telemetry` section: raw values > where metrics go and what of them, checked. */
import { SpireError } from "../core/errors.ts";
import { quote } from "../core/go-text.ts";
import { parseSpiffeId, type SpiffeId } from "../core/spiffe-id.ts";
import type { Checks } from "./checks.ts";
import type { Origin } from "./origin.ts";
import type { RawServerFile } from "./server-schema.ts";

export interface TelemetryConfig {
  /** Undefined = not served. */
  readonly prometheus?: PrometheusConfig;
  readonly statsd: readonly CollectorAddress[];
  readonly dogStatsd: readonly CollectorAddress[];
  /** First word of all names; undefined = the program's. */
  readonly prefix?: string;
  readonly trustDomainLabel: boolean;
  readonly hostnameLabel: boolean;
  readonly filter: {
    readonly allowedPrefixes: readonly string[];
    readonly blockedPrefixes: readonly string[];
    /** Undefined = all but the blocked. */
    readonly allowedLabels?: readonly string[];
    readonly blockedLabels: readonly string[];
  };
}

export interface PrometheusConfig {
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  /** Undefined = plain HTTP. */
  readonly tls?: PrometheusTlsConfig;
}

export interface PrometheusTlsConfig {
  /** Undefined = the program's own SVID. */
  readonly files?: { readonly certificate: string; readonly key: string };
  /** PEM; clients need a certificate from one of these authorities. */
  readonly clientAuthorities?: string;
  /** Clients need an SVID with one of these IDs; empty = no SVID is asked for. */
  readonly clientIds: readonly SpiffeId[];
}

export interface CollectorAddress {
  readonly host: string;
  readonly port: number;
}

type RawTelemetry = NonNullable<RawServerFile["telemetry"]>;
type RawPrometheus = NonNullable<RawTelemetry["Prometheus"]>;
type RawTls = NonNullable<RawPrometheus["tls"]>;

/** @throws SpireError for the first thing that doesn't hold. */
export function readTelemetry(raw: RawTelemetry, origin: Origin, checks: Checks): TelemetryConfig {
  const collectors = (list: RawTelemetry["Statsd"], name: string) =>
    (list ?? []).map(({ address }, index) =>
      readCollector(address, `telemetry.${name}[${index}].address`, origin),
    );
  return {
    ...(raw.Prometheus && { prometheus: readPrometheus(raw.Prometheus, origin, checks) }),
    statsd: collectors(raw.Statsd, "Statsd"),
    dogStatsd: collectors(raw.DogStatsd, "DogStatsd"),
    ...(raw.MetricPrefix && { prefix: raw.MetricPrefix }),
    trustDomainLabel: raw.EnableTrustDomainLabel ?? false,
    hostnameLabel: raw.EnableHostnameLabel ?? true,
    filter: {
      allowedPrefixes: raw.AllowedPrefixes ?? [],
      blockedPrefixes: raw.BlockedPrefixes ?? [],
      ...(raw.AllowedLabels && { allowedLabels: raw.AllowedLabels }),
      blockedLabels: raw.BlockedLabels ?? [],
    },
  };
}

const prometheusPath = "telemetry.Prometheus";

function readPrometheus(
  { host, port = 0, tls }: RawPrometheus,
  origin: Origin,
  checks: Checks,
): PrometheusConfig {
  return {
    host: host || "localhost",
    port: checks.port(port, `${prometheusPath}.port`, 0),
    ...(tls && { tls: readTls(tls, origin) }),
  };
}

/** The rules are SPIRE's, and its words. */
function readTls(tls: RawTls, origin: Origin): PrometheusTlsConfig {
  const { cert_file: certificate = "", key_file: key = "", client_ca_file: authorities = "" } = tls;
  const { use_spire_svid: ownSvid = false, authorized_spiffe_ids: ids = [] } = tls;
  const refuse = (message: string, option: string) =>
    origin.problem(
      `failed to create TLS config for Prometheus: ${message}`,
      `${prometheusPath}.tls.${option}`,
    );
  if (ownSvid && (certificate !== "" || key !== "")) {
    const option = certificate === "" ? "key_file" : "cert_file";
    throw refuse("cert_file and key_file cannot be configured when use_spire_svid is enabled", option);
  }
  if (!ownSvid && (certificate === "" || key === "")) {
    const option = certificate === "" ? "cert_file" : "key_file";
    throw refuse("cert_file and key_file must both be configured unless use_spire_svid is enabled", option);
  }
  if (authorities !== "" && ids.length > 0) {
    throw refuse("client_ca_file cannot be configured with authorized_spiffe_ids", "client_ca_file");
  }
  if (authorities !== "" && ownSvid) {
    throw refuse(
      "client_ca_file has no effect with use_spire_svid; name authorized_spiffe_ids",
      "client_ca_file",
    );
  }
  return {
    ...(!ownSvid && { files: { certificate, key } }),
    ...(authorities !== "" && { clientAuthorities: authorities }),
    clientIds: ids.map((text, index) => {
      try {
        return parseSpiffeId(text);
      } catch (error) {
        const reason = SpireError.from(error).message;
        throw refuse(
          `invalid authorized SPIFFE ID ${quote(text)}: ${reason}`,
          `authorized_spiffe_ids[${index}]`,
        );
      }
    }),
  };
}

function readCollector(address: string | undefined, path: string, origin: Origin): CollectorAddress {
  const [, host, port] = /^\[?([^[\]/]+)\]?:(\d{1,5})$/.exec(address ?? "") ?? [];
  if (host !== undefined && Number(port) >= 1 && Number(port) <= 65_535) return { host, port: Number(port) };
  const message = `telemetry collector address ${quote(address ?? "")} is not a host and a port`;
  throw origin.problem(message, path, 'write one such as "127.0.0.1:8125"');
}
