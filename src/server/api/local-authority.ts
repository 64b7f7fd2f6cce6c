/** spire.api.server.localauthority.v1.LocalAuthority: this server's authorities, looked at and rotated by hand. */
import { SpireError } from "../../core/errors.ts";
import {
  type AuthorityState,
  LocalAuthorityService,
} from "../../rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { AuthorityKeeper } from "../authority-keeper.ts";
import type { ForcedRotation } from "../forced-rotation.ts";
import type { ForcedUpstream } from "../forced-upstream.ts";
import type { AuthorityKind, JournalEntry } from "../journal.ts";
import { upstreamAuthorityId } from "../upstream.ts";

export interface LocalAuthorityApiOptions {
  readonly authority: AuthorityKeeper;
  readonly rotation: ForcedRotation;
  /** Undefined: the server has no upstream authority. */
  readonly upstream: ForcedUpstream | undefined;
  /** Answers UNIMPLEMENTED to every call about JWT authorities. */
  readonly disableJwtSvids: boolean;
}

export function createLocalAuthorityApi({
  authority,
  rotation,
  upstream,
  disableJwtSvids,
}: LocalAuthorityApiOptions): BoundService {
  function statesOf(kind: AuthorityKind) {
    const active = authority.state(kind, "active");
    if (!active) throw new SpireError("UNAVAILABLE", "server is initializing");
    return {
      active: toState(active),
      prepared: toStateIfAny(authority.state(kind, "prepared")),
      old: toStateIfAny(authority.state(kind, "old")),
    };
  }

  return bindService(LocalAuthorityService, {
    getX509AuthorityState: async () => statesOf("x509"),
    prepareX509Authority: async () => ({ preparedAuthority: toState(await rotation.prepare("x509")) }),
    activateX509Authority: async ({ authorityId }) => ({
      activatedAuthority: toState(await rotation.activate("x509", authorityId)),
    }),
    async taintX509Authority({ authorityId }) {
      if (upstream) throw notOurs("tainted");
      return { taintedAuthority: toState(await rotation.taint("x509", authorityId)) };
    },
    async revokeX509Authority({ authorityId }) {
      if (upstream) throw notOurs("revoked");
      return { revokedAuthority: await revoked("x509", authorityId) };
    },

    ...(disableJwtSvids ? noJwtMethods : jwtMethods()),

    async taintX509UpstreamAuthority({ subjectKeyId }) {
      if (!upstream) throw noUpstream();
      return { upstreamAuthoritySubjectKeyId: await upstream.taint(subjectKeyId) };
    },
    async revokeX509UpstreamAuthority({ subjectKeyId }) {
      if (!upstream) throw noUpstream();
      return { upstreamAuthoritySubjectKeyId: await upstream.revoke(subjectKeyId) };
    },

    getWitAuthorityState: noWit,
    prepareWitAuthority: noWit,
    activateWitAuthority: noWit,
    taintWitAuthority: noWit,
    revokeWitAuthority: noWit,
  });

  async function revoked(kind: AuthorityKind, authorityId: string): Promise<AuthorityState> {
    await rotation.revoke(kind, authorityId);
    return { authorityId, expiresAt: 0, upstreamAuthoritySubjectKeyId: "" };
  }

  function jwtMethods() {
    return {
      getJwtAuthorityState: async () => statesOf("jwt"),
      prepareJwtAuthority: async () => ({ preparedAuthority: toState(await rotation.prepare("jwt")) }),
      activateJwtAuthority: async ({ authorityId }: Named) => ({
        activatedAuthority: toState(await rotation.activate("jwt", authorityId)),
      }),
      taintJwtAuthority: async ({ authorityId }: Named) => ({
        taintedAuthority: withoutExpiry(await rotation.taint("jwt", authorityId)),
      }),
      revokeJwtAuthority: async ({ authorityId }: Named) => ({
        revokedAuthority: await revoked("jwt", authorityId),
      }),
    };
  }
}

interface Named {
  readonly authorityId: string;
}

const toState = (entry: JournalEntry): AuthorityState => ({
  authorityId: entry.authorityId,
  expiresAt: entry.notAfter,
  upstreamAuthoritySubjectKeyId: upstreamAuthorityId(entry),
});

/** SPIRE's answers to these calls leave the expiry out. */
const withoutExpiry = (entry: JournalEntry): AuthorityState => ({ ...toState(entry), expiresAt: 0 });

const toStateIfAny = (entry: JournalEntry | undefined): AuthorityState | undefined => entry && toState(entry);

const noUpstream = () => new SpireError("FAILED_PRECONDITION", "upstream authority is not configured");

const notOurs = (done: string) =>
  new SpireError("FAILED_PRECONDITION", `local authority can't be ${done} if there is an upstream authority`);

async function noJwt(): Promise<never> {
  throw new SpireError("UNIMPLEMENTED", "JWT functionality is disabled");
}

const noJwtMethods = {
  getJwtAuthorityState: noJwt,
  prepareJwtAuthority: noJwt,
  activateJwtAuthority: noJwt,
  taintJwtAuthority: noJwt,
  revokeJwtAuthority: noJwt,
};

async function noWit(): Promise<never> {
  throw new SpireError("UNIMPLEMENTED", "WIT-SVID functionality is not yet implemented");
}
