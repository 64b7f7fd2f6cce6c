/** X.509-SVIDs and JWT-SVIDs as messages. */
import type { SpiffeId } from "../../core/spiffe-id.ts";
import type { JWTSVID } from "../../rpc/gen/spire/api/types/jwtsvid.ts";
import type { X509SVID } from "../../rpc/gen/spire/api/types/x509svid.ts";
import type { SignedCertificate, SignedToken } from "../authority.ts";
import { toIdMessage } from "./convert-id.ts";

export const toX509SvidMessage = (id: SpiffeId, { chain, notAfter }: SignedCertificate): X509SVID => ({
  certChain: chain.map(toBuffer),
  id: toIdMessage(id),
  expiresAt: notAfter,
  hint: "",
});

/** Without a hint, as SPIRE's server sends it: agents know it from the entry. */
export const toJwtSvidMessage = (id: SpiffeId, { token, expiresAt, issuedAt }: SignedToken): JWTSVID => ({
  token,
  id: toIdMessage(id),
  expiresAt,
  issuedAt,
  hint: "",
});

/** The same bytes, as generated messages want them. */
export const toBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
