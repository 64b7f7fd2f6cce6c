/** The methods of the server's API as a table: who may call each, and which rate limit it falls under. */

/**
 * Kinds of callers. `local`: came over the server's Unix socket. `any`: needs no certificate. The others show an
 * X.509-SVID: `admin` and `downstream` by a registration entry (or `admin_ids`), `agent` by attestation.
 */
export type CallerKind = "local" | "admin" | "agent" | "downstream" | "any";

/** Calls that share a budget per client address. */
export type LimitName = "attest" | "csr" | "jwt" | "wit" | "publishJwt" | "publishWit" | "status";

/** Tokens a second, which is also the burst. */
export const limitsPerSecond: Readonly<Record<LimitName, number>> = {
  attest: 1,
  csr: 500,
  jwt: 500,
  wit: 500,
  publishJwt: 500,
  publishWit: 500,
  status: 10,
};

export interface MethodRule {
  readonly allowed: readonly CallerKind[];
  readonly limit?: LimitName;
  /** Field of the request whose items take one token each. */
  readonly items?: string;
}

const local: MethodRule = { allowed: ["local"] };
const manage: MethodRule = { allowed: ["local", "admin"] };
const agent: MethodRule = { allowed: ["agent"] };

type ServiceRules = Readonly<Record<string, MethodRule>>;

const services: Readonly<Record<string, ServiceRules>> = {
  "spire.api.server.agent.v1.Agent": {
    CountAgents: manage,
    ListAgents: manage,
    GetAgent: manage,
    DeleteAgent: manage,
    BanAgent: manage,
    CreateJoinToken: manage,
    AttestAgent: { allowed: ["any"], limit: "attest" },
    RenewAgent: { allowed: ["agent"], limit: "csr" },
    PostStatus: { allowed: ["agent"], limit: "status" },
  },
  "spire.api.server.bundle.v1.Bundle": {
    GetBundle: { allowed: ["any"] },
    GetFederatedBundle: { allowed: ["local", "admin", "agent"] },
    CountBundles: manage,
    AppendBundle: manage,
    ListFederatedBundles: manage,
    BatchCreateFederatedBundle: manage,
    BatchUpdateFederatedBundle: manage,
    BatchSetFederatedBundle: manage,
    BatchDeleteFederatedBundle: manage,
    PublishJWTAuthority: { allowed: ["downstream"], limit: "publishJwt" },
    PublishWITAuthority: { allowed: ["downstream"], limit: "publishWit" },
  },
  "spire.api.server.entry.v1.Entry": {
    CountEntries: manage,
    ListEntries: manage,
    GetEntry: manage,
    BatchCreateEntry: manage,
    BatchUpdateEntry: manage,
    BatchDeleteEntry: manage,
    GetAuthorizedEntries: agent,
    SyncAuthorizedEntries: agent,
  },
  "spire.api.server.svid.v1.SVID": {
    MintX509SVID: manage,
    MintJWTSVID: manage,
    MintWITSVID: manage,
    BatchNewX509SVID: { allowed: ["agent"], limit: "csr", items: "params" },
    NewJWTSVID: { allowed: ["agent"], limit: "jwt" },
    BatchNewWITSVID: { allowed: ["agent"], limit: "wit", items: "params" },
    NewDownstreamX509CA: { allowed: ["downstream"], limit: "csr" },
  },
  "spire.api.server.trustdomain.v1.TrustDomain": {
    ListFederationRelationships: manage,
    GetFederationRelationship: manage,
    BatchCreateFederationRelationship: manage,
    BatchUpdateFederationRelationship: manage,
    BatchDeleteFederationRelationship: manage,
    RefreshBundle: manage,
  },
  "spire.api.server.localauthority.v1.LocalAuthority": {
    GetJWTAuthorityState: manage,
    PrepareJWTAuthority: manage,
    ActivateJWTAuthority: manage,
    TaintJWTAuthority: manage,
    RevokeJWTAuthority: manage,
    GetX509AuthorityState: manage,
    PrepareX509Authority: manage,
    ActivateX509Authority: manage,
    TaintX509Authority: manage,
    TaintX509UpstreamAuthority: manage,
    RevokeX509Authority: manage,
    RevokeX509UpstreamAuthority: manage,
    GetWITAuthorityState: manage,
    PrepareWITAuthority: manage,
    ActivateWITAuthority: manage,
    TaintWITAuthority: manage,
    RevokeWITAuthority: manage,
  },
  "spire.api.server.logger.v1.Logger": { GetLogger: local, SetLogLevel: local, ResetLogLevel: local },
  "spire.api.server.debug.v1.Debug": { GetInfo: local },
  "spire.server.bundlehistory.v1.BundleHistory": { ListVersions: local, RestoreVersion: local },
  "spire.server.rotation.v1.Rotation": {
    StartRotation: manage,
    GetRotation: manage,
    WatchRotation: manage,
    StopRotation: manage,
    ResumeRotation: manage,
    UndoRotation: manage,
  },
  "spire.server.activity.v1.AgentActivity": { ListAgentActivity: manage },
  "grpc.health.v1.Health": { Check: local, List: local, Watch: local },
};

/** By full method, such as `/spire.api.server.agent.v1.Agent/AttestAgent`. */
export const methodRules: ReadonlyMap<string, MethodRule> = new Map(
  Object.entries(services).flatMap(([service, rules]) =>
    Object.entries(rules).map(([method, rule]): [string, MethodRule] => [`/${service}/${method}`, rule]),
  ),
);
