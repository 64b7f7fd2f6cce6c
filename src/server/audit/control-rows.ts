/** What is audited of localauthority.v1 and logger.v1: the authority at stake, the level that was asked for. */
import type { LogFields } from "../../core/log.ts";
import { LocalAuthorityService } from "../../rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { LoggerService } from "../../rpc/gen/spire/api/server/logger/v1/logger.ts";
import { LogLevel } from "../../rpc/gen/spire/api/types/logger.ts";
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
