/** An authority that notes in the ledger whatever it signs for others, before that is handed out. */
import type { SpiffeId } from "../../core/spiffe-id.ts";
import type { Authority, SignedCertificate, SignedToken, SvidHolder } from "../authority.ts";
import type { Holders, SvidLedger } from "./svid-ledger.ts";

/** What nobody is named for counts as minted: it is waited for until it ends, as nobody replaces it. */
export function recordSignings(authority: Authority, ledger: SvidLedger): Authority {
  async function noted<T extends Noted>(
    signing: Promise<T>,
    holders: Holders,
    holder?: SvidHolder,
  ): Promise<T> {
    const signed = await signing;
    const written = ledger.signed({
      authorityId: signed.authorityId,
      holders,
      expiresAt: "notAfter" in signed ? signed.notAfter : signed.expiresAt,
      ...(holder ? { holder } : {}),
    });
    if (written) await written;
    return signed;
  }

  const { signWitSvid } = authority;
  return {
    ...authority,
    signWorkloadSvid: (request) =>
      ledger.track(noted(authority.signWorkloadSvid(request), holdersOf(request), request.holder)),
    signJwtSvid: (request) => ledger.track(noted(authority.signJwtSvid(request), holdersOf(request))),
    signDownstreamCa: (publicKeyInfo, ttlSeconds) =>
      ledger.track(noted(authority.signDownstreamCa(publicKeyInfo, ttlSeconds), "downstream")),
    ...(signWitSvid
      ? { signWitSvid: (request) => ledger.track(noted(signWitSvid(request), holdersOf(request))) }
      : {}),
    signAgentSvid: (spiffeId, publicKeyInfo) => ledger.track(agentSvid(spiffeId, publicKeyInfo)),
  };

  async function agentSvid(spiffeId: SpiffeId, publicKeyInfo: Uint8Array): Promise<SignedCertificate> {
    const signed = await authority.signAgentSvid(spiffeId, publicKeyInfo);
    ledger.agentSigned(spiffeId, signed.serialNumber, signed.authorityId);
    return signed;
  }
}

type Noted = SignedCertificate | SignedToken;

const holdersOf = ({ holder }: { readonly holder?: SvidHolder }): Holders =>
  holder ? "workloads" : "minted";
