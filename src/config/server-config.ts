/** What a server is told once its configuration was read and holds: the one type that file, flags and code meet in. */
import type { FederationRelationship } from "../core/federation.ts";
import type { KeyType } from "../core/keys.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import type { LogSettings } from "./checks.ts";
import type { HealthConfig } from "./health.ts";
import type { TelemetryConfig } from "./telemetry.ts";
import type { X509popServerConfig } from "./x509pop.ts";

/** Settings that hold. */
export interface ServerConfig {
  readonly trustDomain: TrustDomain;
  /** IP address or host name to listen on. */
  readonly bindAddress: string;
  /** 0 = a free one. */
  readonly bindPort: number;
  /** Unix socket of the server API. */
  readonly socketPath: string;
  /** Made with 0700 when missing. */
  readonly dataDir: string;
  readonly keyManager: KeyManagerConfig;
  /** `:memory:` is allowed. */
  readonly dataStore: { readonly type: "sqlite"; readonly path: string };
  /** What agents may attest by. */
  readonly nodeAttestors: readonly NodeAttestorConfig[];
  /** Whether each agent gets a selector `spiffe_id:<its ID>`. */
  readonly agentIdAsSelector: boolean;
  /** Signs the X.509 authorities; undefined = they sign themselves. */
  readonly upstreamAuthority?: UpstreamAuthorityConfig;
  /** In the order in which they are asked. */
  readonly credentialComposers: readonly CredentialComposerConfig[];
  /** Seconds. */
  readonly caTtlSeconds: number;
  readonly caKeyType: KeyType;
  readonly jwtKeyType: KeyType;
  /** Of CA certificates; undefined = C=US, O=SPIFFE. */
  readonly caSubject?: CaSubject;
  /** Seconds. */
  readonly defaultX509SvidTtlSeconds: number;
  /** Seconds. */
  readonly defaultJwtSvidTtlSeconds: number;
  /** Seconds; undefined = `defaultX509SvidTtlSeconds`. */
  readonly agentTtlSeconds?: number;
  /** `iss` of JWT-SVIDs; undefined = none. */
  readonly jwtIssuer?: string;
  readonly disableJwtSvids: boolean;
  /** Whether connections without a post-quantum key exchange are refused. */
  readonly requirePqKem: boolean;
  /** Undefined = no WIT-SVIDs are issued. */
  readonly wit?: WitConfig;
  /** Undefined = agents stay listed until somebody evicts them. */
  readonly nodePruning?: NodePruningConfig;
  readonly adminIds: readonly SpiffeId[];
  readonly rateLimit: { readonly attestation: boolean; readonly signing: boolean };
  /** Undefined = no bundle endpoint, and no relationships but those that are made at run time. */
  readonly federation?: FederationConfig;
  /** Ranges of addresses, such as `10.0.0.0/8`, whose PROXY headers are believed. */
  readonly proxyProtocolTrustedCidrs: readonly string[];
  /** Undefined = health isn't served over HTTP. */
  readonly health?: HealthConfig;
  readonly log: LogSettings;
  /** Undefined = no backups but those made by hand. */
  readonly backup?: BackupConfig;
  /** Whether each call is logged, with who called and what for. */
  readonly auditLog: boolean;
  /** Undefined = nothing is measured. */
  readonly telemetry?: TelemetryConfig;
}

type KeyManagerConfig = { readonly type: "memory" } | { readonly type: "disk"; readonly keysPath: string };

/** `type` is the plugin's name. */
export type NodeAttestorConfig = { readonly type: "join_token" } | X509popServerConfig;

/** `type` is the plugin's name. */
export type UpstreamAuthorityConfig = DiskUpstreamConfig | SpireUpstreamConfig;

/** Files in PEM. */
interface DiskUpstreamConfig {
  readonly type: "disk";
  readonly certFilePath: string;
  readonly keyFilePath: string;
  /** Undefined = the certificate is its own root. */
  readonly bundleFilePath?: string;
}

interface SpireUpstreamConfig {
  readonly type: "spire";
  /** `host:port`. */
  readonly serverAddress: string;
  /** Unix socket. */
  readonly workloadApiSocket: string;
}

/** `type` is the plugin's name. */
export type CredentialComposerConfig = { readonly type: "uniqueid" };

/** Backups on a schedule. */
export interface BackupConfig {
  readonly directory: string;
  /** Where the configuration names it: `file:line:column`; empty when that is not known. */
  readonly directoryPlace: string;
  readonly intervalMs: number;
  /** At least 1. */
  readonly keep: number;
  /** Whether the key file of the disk key manager is included. */
  readonly withKeys: boolean;
}

export interface CaSubject {
  readonly country: readonly string[];
  readonly organization: readonly string[];
  readonly commonName: string;
}

export interface WitConfig {
  readonly keyType: KeyType;
  /** `iss` of WIT-SVIDs; undefined = none. */
  readonly issuer?: string;
}

export interface NodePruningConfig {
  /** How long ago the SVID of an agent must have ended. */
  readonly expiredForMs: number;
  /** How many agents are removed in one round. */
  readonly batchSize: number;
  /** Whether agents that can't attest again are removed as well. */
  readonly includeTofu: boolean;
}

/** `federation` of SPIRE's configuration. */
export interface FederationConfig {
  /** Serves this trust domain's bundle; undefined = not served. */
  readonly bundleEndpoint?: {
    /** IP address or host name to listen on. */
    readonly address: string;
    /** 0 = a free one. */
    readonly port: number;
    /** Seconds between two fetches that clients are told to keep; 5 minutes unless said. */
    readonly refreshHintSeconds?: number;
    /** What clients know it by; undefined = the server's SVID (profile https_spiffe). */
    readonly webCertificate?: WebCertificateConfig;
  };
  /** Each takes the place of one made at run time with the same trust domain. */
  readonly federatesWith: readonly FederationRelationship[];
}

/** Where a certificate for profile https_web comes from. */
export type WebCertificateConfig =
  | {
      readonly type: "files";
      /** Certificate chain, PEM. */
      readonly certPath: string;
      /** Its private key, PEM. */
      readonly keyPath: string;
      /** Between two looks at the files. */
      readonly syncIntervalMs: number;
    }
  | {
      readonly type: "acme";
      readonly directoryUrl: string;
      readonly domainName: string;
      /** Contact of the account; empty = none. */
      readonly email: string;
      readonly tosAccepted: boolean;
    };
