/** Where a server listens that is to be reached at every address of its machine. */
import { networkInterfaces } from "node:os";
import type { ServerConfig } from "../config/server-config.ts";

type Family = "IPv4" | "IPv6";

const familiesHere = (): readonly Family[] =>
  Object.values(networkInterfaces()).flatMap((addresses = []) => addresses.map(({ family }) => family));

/** `0.0.0.0` stands for the machine's IPv6 addresses, too, as with stock SPIRE: Go's listeners take both. */
export const listeningHost = (host: string, families: readonly Family[] = familiesHere()): string =>
  host === "0.0.0.0" && families.includes("IPv6") ? "::" : host;

type Listening = Pick<ServerConfig, "bindAddress" | "federation" | "telemetry" | "health">;

/** All listeners of a configuration. */
export function atEveryAddress<C extends Listening>(config: C): C {
  const { federation, telemetry, health } = config;
  const endpoint = federation?.bundleEndpoint;
  const prometheus = telemetry?.prometheus;
  return {
    ...config,
    bindAddress: listeningHost(config.bindAddress),
    ...(federation &&
      endpoint && {
        federation: {
          ...federation,
          bundleEndpoint: { ...endpoint, address: listeningHost(endpoint.address) },
        },
      }),
    ...(telemetry &&
      prometheus && {
        telemetry: { ...telemetry, prometheus: { ...prometheus, host: listeningHost(prometheus.host) } },
      }),
    ...(health && { health: { ...health, host: listeningHost(health.host) } }),
  };
}
