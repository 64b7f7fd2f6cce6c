/** The one door to the CA keys: all that the trust domain signs, and how its authorities come and go. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { createTokenId, signJwtSvid } from "../core/jwt-svid.ts";
import type { KeyType } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, nullMetrics } from "../core/metrics.ts";
import { type SpiffeId, serverId, type TrustDomain, trustDomainId } from "../core/spiffe-id.ts";
import { type ConfirmationKey, signWitSvid } from "../core/wit-svid.ts";
import {
  type CaSubjectParts,
  type IssuedCertificate,
  type Issuer,
  issueAgentSvid,
  issueDownstreamCa,
  issueServerSvid,
  issueWorkloadSvid,
  workloadSubject,
} from "../core/x509/issue.ts";
import type { CredentialComposer, X509SvidAttributes } from "../plugins/credential-composers/index.ts";
import type { KeyManager } from "../plugins/key-managers/index.ts";
import { type AuthorityKeeper, createKeeper } from "./authority-keeper.ts";
import {
  type AuthorityLine,
  createTokenLine,
  createX509Line,
  type HeldAuthority,
  type TokenSigner,
} from "./authority-line.ts";
import type { Registry } from "./registry.ts";
import type { Upstream } from "./upstream.ts";

/** A certificate with the chain that is sent along with it. */
export interface SignedCertificate extends IssuedCertificate {
  /** Leaf first; DER. */
  readonly chain: readonly Uint8Array[];
  /** The X.509 authority that signed. */
  readonly authorityId: string;
}

export interface SignedToken {
  readonly token: string;
  /** Unix seconds. */
  readonly issuedAt: number;
  /** Unix seconds. */
  readonly expiresAt: number;
  /** The authority of its kind that signed. */
  readonly authorityId: string;
}

/** Whom something is signed for: an agent's workloads, as an entry allows. */
export interface SvidHolder {
  readonly agent: SpiffeId;
  readonly entryId: string;
}

export interface WorkloadRequest {
  /** Undefined = it is minted. */
  readonly holder?: SvidHolder;
  readonly spiffeId: SpiffeId;
  /** DER. */
  readonly publicKeyInfo: Uint8Array;
  readonly dnsNames: readonly string[];
  /** 0 or less = the server's default. */
  readonly ttlSeconds: number;
  /** DER Name; undefined = C=US, O=SPIRE. */
  readonly subjectDer?: Uint8Array;
}

export interface TokenRequest {
  /** Undefined = it is minted. */
  readonly holder?: SvidHolder;
  readonly spiffeId: SpiffeId;
  readonly audience: readonly string[];
  /** 0 or less = the server's default. */
  readonly ttlSeconds: number;
  /** Whether the token gets an ID (`jti`). */
  readonly withId: boolean;
}

export interface WitRequest {
  /** Undefined = it is minted. */
  readonly holder?: SvidHolder;
  readonly spiffeId: SpiffeId;
  /** The workload's own; has passed `requireConfirmation`. */
  readonly confirmation: ConfirmationKey;
  /** 0 or less = an hour. */
  readonly ttlSeconds: number;
}

/**
 * No SVID outlives its authority: a TTL is cut to what is left of it. Signing fails only when no authority can
 * be made.
 */
export interface Authority extends AuthorityKeeper {
  readonly trustDomain: TrustDomain;
  signWorkloadSvid(request: WorkloadRequest): Promise<SignedCertificate>;
  signAgentSvid(spiffeId: SpiffeId, publicKeyInfo: Uint8Array): Promise<SignedCertificate>;
  signServerSvid(publicKeyInfo: Uint8Array): Promise<SignedCertificate>;
  /** `ttlSeconds` 0 = the CA's own lifetime. */
  signDownstreamCa(publicKeyInfo: Uint8Array, ttlSeconds: number): Promise<SignedCertificate>;
  /** @throws SpireError INVALID_ARGUMENT when all of the audience is empty; UNIMPLEMENTED without JWT-SVIDs. */
  signJwtSvid(request: TokenRequest): Promise<SignedToken>;
  /** Undefined: this server issues no WIT-SVIDs. */
  readonly signWitSvid?: (request: WitRequest) => Promise<SignedToken>;
}

export interface AuthorityOptions {
  readonly trustDomain: TrustDomain;
  readonly keyManager: KeyManager;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
  readonly caKeyType: KeyType;
  readonly jwtKeyType: KeyType;
  readonly caSubject?: CaSubjectParts;
  /** Seconds. */
  readonly caTtlSeconds: number;
  readonly x509SvidTtlSeconds: number;
  readonly jwtSvidTtlSeconds: number;
  readonly agentTtlSeconds: number;
  readonly jwtIssuer?: string;
  /** Signs this server's X.509 authorities; undefined: they sign themselves. */
  readonly upstream?: Upstream;
  /** In the order in which they are asked; none unless given. */
  readonly composers?: readonly CredentialComposer[];
  /** No JWT-SVIDs are issued, and no authority for them is made. */
  readonly disableJwtSvids?: boolean;
  /** Undefined: no WIT-SVIDs are issued, and no authority for them is made. */
  readonly wit?: WitOptions;
}

export interface WitOptions {
  readonly keyType: KeyType;
  /** `iss` of WIT-SVIDs; undefined = none. */
  readonly issuer?: string;
}

/** Seconds. */
const defaultWitTtl = 3_600;

/** Takes up the authorities that journal, key manager and bundle agree on; `recover` makes what is missing. */
export async function createAuthority(options: AuthorityOptions): Promise<Authority> {
  const { trustDomain, keyManager, registry, clock, log, metrics = nullMetrics } = options;
  const x509 = createX509Line({
    trustDomain,
    keyManager,
    keyType: options.caKeyType,
    ttlSeconds: options.caTtlSeconds,
    ...(options.caSubject ? { subject: options.caSubject } : {}),
    ...(options.upstream ? { upstream: options.upstream } : {}),
  });
  const tokenLine = (kind: "jwt" | "wit", keyType: KeyType) =>
    createTokenLine({
      kind,
      keyManager,
      keyType,
      ttlSeconds: options.caTtlSeconds,
      // SPIRE's servers have a method to publish WIT keys upstream, but none of them answers it.
      ...(options.upstream && kind === "jwt" ? { announce: options.upstream.publishJwtKey } : {}),
    });
  const jwt = options.disableJwtSvids ? undefined : tokenLine("jwt", options.jwtKeyType);
  const wit = options.wit && tokenLine("wit", options.wit.keyType);
  const lines = [x509, ...(jwt ? [jwt] : []), ...(wit ? [wit] : [])];
  const keeper = await createKeeper({ lines, keyManager, registry, clock, log, metrics });

  async function usable<S>(line: AuthorityLine<S>): Promise<HeldAuthority<S>> {
    const active = line.held("active");
    if (active && active.notAfter > unixSeconds(clock)) return active;
    await keeper.recover();
    const recovered = line.held("active");
    if (!recovered) throw new SpireError("UNAVAILABLE", `no ${line.kind} authority is available for signing`);
    return recovered;
  }

  async function sign(
    issue: (issuer: Issuer, nowSeconds: number) => Promise<IssuedCertificate>,
  ): Promise<SignedCertificate> {
    const { signer, authorityId, upstreamChain } = await usable(x509);
    const issued = await issue(signer, unixSeconds(clock));
    return { ...issued, chain: [issued.der, ...upstreamChain], authorityId };
  }

  async function workloadAttributes({ spiffeId, dnsNames, subjectDer }: WorkloadRequest) {
    // The usual subject is encoded once for all.
    if (!options.composers?.length && subjectDer === undefined) return { dnsNames };
    let attributes: X509SvidAttributes = { dnsNames, subject: workloadSubject(dnsNames, subjectDer) };
    for (const composer of options.composers ?? []) {
      attributes = (await composer.composeWorkloadX509Svid?.(spiffeId, attributes)) ?? attributes;
    }
    return attributes;
  }

  const signWit =
    (line: AuthorityLine<TokenSigner>, issuer: string | undefined) =>
    async ({ spiffeId, confirmation, ttlSeconds }: WitRequest): Promise<SignedToken> => {
      const { signer, notAfter, authorityId } = await usable(line);
      const issuedAt = unixSeconds(clock);
      const expiresAt = Math.min(issuedAt + ttlOr(ttlSeconds, defaultWitTtl), notAfter);
      const request = { ...signer, spiffeId, confirmation, issuedAt, expiresAt };
      const token = await signWitSvid({ ...request, ...(issuer ? { issuer } : {}) });
      return { token, issuedAt, expiresAt, authorityId };
    };

  return {
    trustDomain,
    async signWorkloadSvid(request) {
      const { spiffeId, publicKeyInfo } = request;
      const ttlSeconds = ttlOr(request.ttlSeconds, options.x509SvidTtlSeconds);
      const attributes = await workloadAttributes(request);
      return sign((issuer, now) =>
        issueWorkloadSvid(issuer, { spiffeId, publicKeyInfo, ttlSeconds, ...attributes }, now),
      );
    },
    signAgentSvid: (spiffeId, publicKeyInfo) =>
      sign((issuer, now) =>
        issueAgentSvid(issuer, { spiffeId, publicKeyInfo, ttlSeconds: options.agentTtlSeconds }, now),
      ),
    signServerSvid: (publicKeyInfo) =>
      sign((issuer, now) => {
        const spiffeId = serverId(trustDomain);
        return issueServerSvid(
          issuer,
          { spiffeId, publicKeyInfo, ttlSeconds: options.x509SvidTtlSeconds },
          now,
        );
      }),
    signDownstreamCa: (publicKeyInfo, ttlSeconds) =>
      sign((issuer, now) => {
        const ttl = ttlOr(ttlSeconds, options.caTtlSeconds);
        const chainLength = issuer.upstreamChain.length + 1;
        const request = { spiffeId: trustDomainId(trustDomain), publicKeyInfo, ttlSeconds: ttl, chainLength };
        return issueDownstreamCa(issuer, request, now);
      }),
    async signJwtSvid({ spiffeId, audience, ttlSeconds, withId }) {
      if (!jwt) throw new SpireError("UNIMPLEMENTED", "JWT functionality is disabled");
      const named = audience.filter((name) => name !== "");
      if (named.length === 0) {
        throw new SpireError("INVALID_ARGUMENT", "invalid JWT-SVID audience: cannot be empty");
      }
      const { signer, notAfter, authorityId } = await usable(jwt);
      const issuedAt = unixSeconds(clock);
      const expiresAt = Math.min(issuedAt + ttlOr(ttlSeconds, options.jwtSvidTtlSeconds), notAfter);
      const token = await signJwtSvid({
        ...signer,
        spiffeId,
        audience: named,
        issuedAt,
        expiresAt,
        ...(options.jwtIssuer ? { issuer: options.jwtIssuer } : {}),
        ...(withId ? { jti: createTokenId() } : {}),
      });
      return { token, issuedAt, expiresAt, authorityId };
    },
    ...(wit ? { signWitSvid: signWit(wit, options.wit?.issuer) } : {}),
    ...keeper,
  };
}

const ttlOr = (ttlSeconds: number, fallback: number): number => (ttlSeconds > 0 ? ttlSeconds : fallback);
