import { expect, test } from "bun:test";
import { loadServer } from "../config/server.ts";
import { atEveryAddress, listeningHost } from "./every-address.ts";

test("0.0.0.0 is every address, those of IPv6 as well where there are any", () => {
  expect(listeningHost("0.0.0.0", ["IPv4", "IPv6"])).toBe("::");
  expect(listeningHost("0.0.0.0", ["IPv4"])).toBe("0.0.0.0");
  expect(listeningHost("127.0.0.1", ["IPv4", "IPv6"])).toBe("127.0.0.1");
  expect(listeningHost("::1", ["IPv6"])).toBe("::1");
});

test("all listeners of a configuration follow", async () => {
  const { config } = await loadServer({
    path: undefined,
    expandEnv: false,
    environment: {},
    overrides: [
      { path: "server.trust_domain", flag: "trustDomain", value: "example.org" },
      { path: "server.data_dir", flag: "dataDir", value: "data" },
    ],
  });
  const host = listeningHost("0.0.0.0");
  const everywhere = atEveryAddress({
    ...config,
    health: { host: "0.0.0.0", port: 1, livePath: "/live", readyPath: "/ready" },
    federation: { bundleEndpoint: { address: "0.0.0.0", port: 2 }, federatesWith: [] },
  });
  expect(everywhere.bindAddress).toBe(host);
  expect(everywhere.health?.host).toBe(host);
  expect(everywhere.federation?.bundleEndpoint).toEqual({ address: host, port: 2 });
  expect(everywhere.telemetry).toBeUndefined();
});
