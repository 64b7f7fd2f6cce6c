/** The bundle endpoint as the settings ask for it: by the server's SVID, by files, or by ACME. */
import { join } from "node:path";
import type { FederationConfig } from "../../config/server-config.ts";
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { TrustBundle } from "../../core/trust-bundle.ts";
import { keepAcmeCertificate } from "../../server/federation/acme/certificate.ts";
import { type BundleEndpoint, listenBundleEndpoint } from "../../server/federation/bundle-endpoint.ts";
import { type EndpointCertificate, svidCertificate } from "../../server/federation/endpoint-certificate.ts";
import { followServingCertFile } from "../../server/federation/serving-cert-file.ts";
import type { ServerIdentity } from "../../server/identity.ts";

export interface BundleEndpointParts {
  readonly endpoint: NonNullable<FederationConfig["bundleEndpoint"]>;
  /** Certificates by ACME are kept below it. */
  readonly dataDir: string;
  /** PEM certificates that vouch for the ACME service; undefined = those of system and runtime. */
  readonly webRoots?: readonly string[];
  readonly identity: Pick<ServerIdentity, "current" | "onChange">;
  readonly bundle: () => TrustBundle;
  /** See `BundleEndpointOptions`. */
  readonly requirePqKem?: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

const defaultRefreshHintSeconds = 300;

/** @throws SpireError when its certificate can't be used, or the address can't be listened at. */
export async function openBundleEndpoint(parts: BundleEndpointParts): Promise<BundleEndpoint> {
  const { endpoint, bundle, requirePqKem = false, clock, log } = parts;
  return listenBundleEndpoint({
    host: endpoint.address,
    port: endpoint.port,
    refreshHintSeconds: endpoint.refreshHintSeconds ?? defaultRefreshHintSeconds,
    certificate: await certificateOf(parts),
    bundle,
    requirePqKem,
    clock,
    log,
  });
}

async function certificateOf(parts: BundleEndpointParts): Promise<EndpointCertificate> {
  const { endpoint, dataDir, webRoots, identity, clock, log } = parts;
  const { webCertificate } = endpoint;
  switch (webCertificate?.type) {
    case undefined:
      return svidCertificate(identity);
    case "files":
      return followServingCertFile({ ...webCertificate, clock, log });
    case "acme": {
      const directory = join(dataDir, "bundle-acme");
      return keepAcmeCertificate({ ...webCertificate, directory, ...(webRoots && { webRoots }), clock, log });
    }
  }
}
