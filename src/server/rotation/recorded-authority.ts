/** An authority that notes in the ledger whatever it signs for others, before that is handed out. */
import type { Authority, SignedCertificate, SignedToken, SvidHolder } from "../authority.ts";
import type { Holders, SvidLedger } from "./svid-ledger.ts";

/** What nobody is named for counts as minted: it is waited for until it ends, as nobody replaces it. */
export function recordSignings(authority: Authority, ledger: SvidLedger): Authority {
  /** Every SVID goes through here, so that it takes as few steps as can be. */
  function noted<T>(signing: Promise<T>, note: (signed: T) => Promise<void> | undefined): Promise<T> {
    const signings = ledger.enter();
    return signing.then(
      (signed) => {
        const written = note(signed);
        ledger.leave(signings);
        return written ? written.then(() => signed) : signed;
      },
      (error: unknown) => {
        ledger.leave(signings);
        throw error;
      },
    );
  }

  const certificate = (holders: Holders, holder?: SvidHolder) => (signed: SignedCertificate) =>
    ledger.signed(signed.authorityId, holders, signed.notAfter, holder);
  /** Tokens are waited for until they expire, whoever holds them. */
  const token = ({ holder }: { readonly holder?: SvidHolder }) => {
    const holders = holder ? "workloads" : "minted";
    return (signed: SignedToken) => ledger.signed(signed.authorityId, holders, signed.expiresAt);
  };

  const { signWitSvid } = authority;
  return {
    ...authority,
    signWorkloadSvid(request) {
      const { holder } = request;
      return noted(authority.signWorkloadSvid(request), certificate(holder ? "workloads" : "minted", holder));
    },
    signJwtSvid: (request) => noted(authority.signJwtSvid(request), token(request)),
    signDownstreamCa: (publicKeyInfo, ttlSeconds) =>
      noted(authority.signDownstreamCa(publicKeyInfo, ttlSeconds), certificate("downstream")),
    ...(signWitSvid ? { signWitSvid: (request) => noted(signWitSvid(request), token(request)) } : {}),
    signAgentSvid: (spiffeId, publicKeyInfo) =>
      noted(authority.signAgentSvid(spiffeId, publicKeyInfo), ({ serialNumber, authorityId }) => {
        ledger.agentSigned(spiffeId, serialNumber, authorityId);
        return undefined;
      }),
  };
}
