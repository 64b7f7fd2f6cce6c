/** Where a server's metrics go: Prometheus, StatsD and DogStatsD collectors, as its settings name them. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { createSecureContext, type SecureContextOptions, type TLSSocket } from "node:tls";
import type { PrometheusConfig, PrometheusTlsConfig, TelemetryConfig } from "../../config/telemetry.ts";
import type { Clock } from "../../core/clock.ts";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { type Metrics, nullMetrics } from "../../core/metrics.ts";
import type { SpiffeId, TrustDomain } from "../../core/spiffe-id.ts";
import { warnOfExposedKey } from "../../files/exposed-key.ts";
import { minimumTlsVersion, pemOf, verifyClient } from "../../rpc/tls.ts";
import type { ServerIdentity } from "../../server/identity.ts";
import type { Registry } from "../../server/registry.ts";
import { createMetrics } from "../../telemetry/metrics.ts";
import { processMetrics } from "../../telemetry/process-metrics.ts";
import { createPrometheusRegistry } from "../../telemetry/prometheus.ts";
import { listenPrometheus, type PrometheusTls } from "../../telemetry/prometheus-listener.ts";
import { createStatsdSink } from "../../telemetry/statsd.ts";

export interface TelemetryOptions {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What the listener for Prometheus is and whom it knows. */
export interface TelemetryPeers {
  readonly identity: Pick<ServerIdentity, "current" | "onChange">;
  readonly registry: Pick<Registry, "bundles">;
}

export interface Telemetry {
  readonly metrics: Metrics;
  /**
   * Begins to serve Prometheus, if that is asked for; resolves to `host:port`.
   * @throws SpireError UNAVAILABLE when the address can't be listened at.
   */
  listen(peers: TelemetryPeers): Promise<string | undefined>;
  /** Sends what is left, and ends the listener. */
  close(): Promise<void>;
}

const defaultPrefix = "spire_server";

/** Reads what it needs of files. @throws SpireError INVALID_ARGUMENT for one that can't be read. */
export function openTelemetry(config: TelemetryConfig, options: TelemetryOptions): Telemetry {
  const { trustDomain, clock, log } = options;
  const { prometheus, statsd, dogStatsd, filter } = config;
  const registry = createPrometheusRegistry();
  const collectors = [
    ...statsd.map((address) => createStatsdSink({ ...address, dialect: "statsd", clock, log })),
    ...dogStatsd.map((address) => createStatsdSink({ ...address, dialect: "dogstatsd", clock, log })),
  ];
  const sinks = [...(prometheus ? [registry.sink] : []), ...collectors];
  const closers = collectors.map(({ close }) => close);
  const secured = prometheus?.tls && readTls(prometheus.tls);
  const keyPath = prometheus?.tls?.files?.key;
  if (keyPath !== undefined) warnOfExposedKey(keyPath, log);
  const create = () =>
    createMetrics({
      sinks,
      prefix: config.prefix ?? defaultPrefix,
      ...(config.trustDomainLabel && { trustDomain }),
      ...(config.hostnameLabel && { host: hostname() }),
      filter,
    });
  return {
    metrics: sinks.length > 0 ? create() : nullMetrics,
    async listen(peers) {
      if (!prometheus) return undefined;
      const { host, port } = prometheus;
      warnOfOpenAddress(prometheus, log);
      const text = () => processMetrics() + registry.text();
      const tls = secured && prepareTls(secured, peers, clock);
      const listener = await listenPrometheus({ host, port, text, clock, log, ...(tls && { tls }) });
      closers.push(listener.close);
      log.info("Starting prometheus exporter", { host, port, subsystem_name: "telemetry" });
      return listener.address;
    },
    async close() {
      await Promise.all(closers.map((close) => close()));
    },
  };
}

/** Whoever reaches the port reads trust domains and versions, and sees what is done when. */
function warnOfOpenAddress({ host, tls }: PrometheusConfig, log: Logger): void {
  if (["localhost", "127.0.0.1", "::1"].includes(host)) return;
  if (tls && (tls.clientAuthorities !== undefined || tls.clientIds.length > 0)) return;
  log.warn(
    "Prometheus exporter is configured to accept remote network connections; see that only those who should can reach it",
    { host, subsystem_name: "telemetry" },
  );
}

interface TlsMaterial {
  /** PEM; undefined = the program's own SVID. */
  readonly own: { readonly cert: string; readonly key: string } | undefined;
  /** PEM. */
  readonly ca: string | undefined;
  readonly clientIds: readonly SpiffeId[];
}

/** Also sees to it that certificate and key belong together. */
function readTls({ files, clientAuthorities, clientIds }: PrometheusTlsConfig): TlsMaterial {
  const own = files && { cert: readFile(files.certificate), key: readFile(files.key) };
  const ca = clientAuthorities === undefined ? undefined : readFile(clientAuthorities);
  try {
    if (own) createSecureContext({ ...own, ...(ca !== undefined && { ca }) });
  } catch (error) {
    throw invalidArgument(`${failure}: ${files?.certificate} and ${files?.key}: ${reasonOf(error)}`);
  }
  return { own, ca, clientIds };
}

const failure = "failed to create TLS config for Prometheus";

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function prepareTls({ own, ca, clientIds }: TlsMaterial, peers: TelemetryPeers, clock: Clock): PrometheusTls {
  const { identity, registry } = peers;
  const context = (): SecureContextOptions => ({
    ...(own ?? pemOf(identity.current())),
    ...(ca && { ca }),
    minVersion: minimumTlsVersion,
  });
  const verifySvid = (socket: TLSSocket): void => {
    const svid = verifyClient(socket, {
      identity: identity.current,
      onIdentityChange: identity.onChange,
      bundle: (trustDomain) => registry.bundles.get(trustDomain),
      acceptId: (id) => clientIds.includes(id),
      clock,
    });
    if (!svid) throw new SpireError("UNAUTHENTICATED", "the client shows no certificate");
  };
  const verifyChain = (socket: TLSSocket): void => {
    if (!socket.authorized) {
      throw new SpireError("UNAUTHENTICATED", `client certificate: ${String(socket.authorizationError)}`);
    }
  };
  return {
    context,
    onChange: own ? () => () => {} : identity.onChange,
    ...(clientIds.length > 0 ? { verify: verifySvid } : ca && { verify: verifyChain }),
  };
}

function readFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw invalidArgument(`${failure}: ${reasonOf(error)}`);
  }
}
