/** The gRPC services of a server: those for everybody by TCP, and those that only its own machine is offered. */
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { BoundService } from "../../rpc/service.ts";
import { createAgentApi } from "../../server/api/agent.ts";
import { createBundleApi } from "../../server/api/bundle.ts";
import { createDebugApi } from "../../server/api/debug.ts";
import { createEntryApi } from "../../server/api/entry.ts";
import { createHealthApi } from "../../server/api/health.ts";
import { createLocalAuthorityApi } from "../../server/api/local-authority.ts";
import { createLoggerApi, type LogLevelControl } from "../../server/api/logger.ts";
import { createSvidApi } from "../../server/api/svid.ts";
import { createTrustDomainApi } from "../../server/api/trust-domain.ts";
import type { Attestation } from "../../server/attest.ts";
import type { Authority } from "../../server/authority.ts";
import type { BundleRefresh } from "../../server/federation/refresh.ts";
import type { Relationships } from "../../server/federation/relationships.ts";
import { createForcedRotation } from "../../server/forced-rotation.ts";
import type { ServerIdentity } from "../../server/identity.ts";
import type { Registry } from "../../server/registry.ts";

export interface ServerParts {
  readonly clock: Clock;
  readonly log: Logger;
  /** Without it the logger API isn't served. */
  readonly logLevel?: LogLevelControl;
  readonly registry: Registry;
  readonly authority: Authority;
  readonly identity: ServerIdentity;
  readonly attestation: Attestation;
  readonly relationships: Relationships;
  readonly bundleRefresh: BundleRefresh;
  readonly disableJwtSvids: boolean;
}

export interface ServerServices {
  readonly remote: readonly BoundService[];
  /** Besides the remote ones. */
  readonly local: readonly BoundService[];
}

export function createServices(parts: ServerParts): ServerServices {
  const { registry, authority, identity, clock, log, logLevel } = parts;
  return {
    remote: [
      createAgentApi(parts),
      createBundleApi(parts),
      createEntryApi(parts),
      createSvidApi(parts),
      createTrustDomainApi(parts),
      createLocalAuthorityApi({ authority, rotation: createForcedRotation(authority, log) }),
    ],
    local: [
      createDebugApi({ registry, authority, identity, clock }),
      createHealthApi(),
      ...(logLevel ? [createLoggerApi(logLevel)] : []),
    ],
  };
}
