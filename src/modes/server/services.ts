/** The gRPC services of a server: those for everybody by TCP, and those that only its own machine is offered. */
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { Metrics } from "../../core/metrics.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import { createRecheck } from "../../rpc/access.ts";
import type { BoundService } from "../../rpc/service.ts";
import { createAgentApi } from "../../server/api/agent.ts";
import { createAgentActivityApi } from "../../server/api/agent-activity.ts";
import { createBundleApi } from "../../server/api/bundle.ts";
import { createBundleHistoryApi } from "../../server/api/bundle-history.ts";
import { createDebugApi } from "../../server/api/debug.ts";
import { createEntryApi } from "../../server/api/entry.ts";
import { createHealthApi } from "../../server/api/health.ts";
import { createLocalAuthorityApi } from "../../server/api/local-authority.ts";
import { createLoggerApi, type LogLevelControl } from "../../server/api/logger.ts";
import { createRotationApi } from "../../server/api/rotation.ts";
import { createSvidApi } from "../../server/api/svid.ts";
import { createTrustDomainApi } from "../../server/api/trust-domain.ts";
import type { Attestation } from "../../server/attest.ts";
import { createBundleHistory } from "../../server/bundle-history.ts";
import { createAccessLookups } from "../../server/callers.ts";
import type { BundleRefresh } from "../../server/federation/refresh.ts";
import type { Relationships } from "../../server/federation/relationships.ts";
import { createForcedRotation } from "../../server/forced-rotation.ts";
import { createForcedUpstream } from "../../server/forced-upstream.ts";
import { guardRotation } from "../../server/rotation/guarded-rotation.ts";
import type { ServerState } from "./state.ts";

export interface ServerParts extends ServerState {
  /** Administrators by configuration. */
  readonly adminIds: readonly SpiffeId[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Without it the logger API isn't served. */
  readonly logLevel?: LogLevelControl;
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
  const { registry, authority, identity, clock, log, logLevel, upstream, records, rotation } = parts;
  const { activity, ledger } = records;
  return {
    remote: [
      createAgentApi(parts),
      createBundleApi({ ...parts, activity }),
      createEntryApi(parts),
      createSvidApi({ ...parts, ledger }),
      createTrustDomainApi(parts),
      createLocalAuthorityApi({
        ...parts,
        rotation: guardRotation(createForcedRotation(authority, log), rotation),
        upstream: upstream && createForcedUpstream(authority, log),
      }),
      createRotationApi({
        runner: rotation,
        authority,
        recheck: createRecheck({ lookups: createAccessLookups(parts), clock }),
        clock,
      }),
      createAgentActivityApi({ registry, activity }),
    ],
    local: [
      createDebugApi({ registry, authority, identity, clock }),
      createHealthApi(),
      createBundleHistoryApi(createBundleHistory(parts)),
      ...(logLevel ? [createLoggerApi(logLevel)] : []),
    ],
  };
}
