/**
 * What is audited of what moves the server itself: the authority or the version of the bundle at stake, how a rotation
 * is to be done, the log level that was asked for.
 */
import type { LogFields } from "../../core/log.ts";
import { LocalAuthorityService } from "../../rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { LoggerService } from "../../rpc/gen/spire/api/server/logger/v1/logger.ts";
import { LogLevel } from "../../rpc/gen/spire/api/types/logger.ts";
import { AgentActivityService } from "../../rpc/gen/spire/server/activity/v1/activity.ts";
import { BundleHistoryService } from "../../rpc/gen/spire/server/bundlehistory/v1/bundlehistory.ts";
import { RotationService } from "../../rpc/gen/spire/server/rotation/v1/rotation.ts";
import { auditRows, nameOf } from "./rows.ts";

const oneAuthority = {
  fields: ({ authorityId }: { readonly authorityId: string }): LogFields => ({
    local_authority_id: authorityId || undefined,
  }),
};

const oneUpstreamAuthority = {
  fields: ({ subjectKeyId }: { readonly subjectKeyId: string }): LogFields => ({
    subject_key_id: subjectKeyId || undefined,
  }),
};

export const localAuthorityRows = auditRows(LocalAuthorityService, {
  getJwtAuthorityState: {},
  prepareJwtAuthority: {},
  activateJwtAuthority: oneAuthority,
  taintJwtAuthority: oneAuthority,
  revokeJwtAuthority: oneAuthority,
  getX509AuthorityState: {},
  prepareX509Authority: {},
  activateX509Authority: oneAuthority,
  taintX509Authority: oneAuthority,
  taintX509UpstreamAuthority: oneUpstreamAuthority,
  revokeX509Authority: oneAuthority,
  revokeX509UpstreamAuthority: oneUpstreamAuthority,
  getWitAuthorityState: {},
  prepareWitAuthority: {},
  activateWitAuthority: oneAuthority,
  taintWitAuthority: oneAuthority,
  revokeWitAuthority: oneAuthority,
});

export const loggerRows = auditRows(LoggerService, {
  getLogger: {},
  setLogLevel: { fields: ({ newLevel }) => ({ new_log_level: nameOf(LogLevel, newLevel) }) },
  resetLogLevel: {},
});

/** Services of our own; SPIRE has none of them. */
export const rotationRows = auditRows(RotationService, {
  startRotation: {
    fields: ({ kinds, emergency, ignoreMinted, ignoreDownstream }) => ({
      kinds: kinds.join(",") || undefined,
      emergency: emergency || undefined,
      ignore_minted: ignoreMinted || undefined,
      ignore_downstream: ignoreDownstream || undefined,
    }),
  },
  getRotation: {},
  watchRotation: {},
  stopRotation: {},
  resumeRotation: {},
  undoRotation: {},
});

export const bundleHistoryRows = auditRows(BundleHistoryService, {
  listVersions: {},
  restoreVersion: { fields: ({ sequenceNumber }) => ({ sequence_number: sequenceNumber }) },
});

export const agentActivityRows = auditRows(AgentActivityService, { listAgentActivity: {} });
