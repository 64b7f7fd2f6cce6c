/** The methods of svid.v1.SVID that sign WIT-SVIDs. */
import type { Entry } from "../../core/entry.ts";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { SpiffeId, TrustDomain } from "../../core/spiffe-id.ts";
import { type ConfirmationKey, requireConfirmation } from "../../core/wit-svid.ts";
import { importPublicKey } from "../../core/x509/certificate.ts";
import type {
  BatchNewWITSVIDResponse_Result,
  MintWITSVIDRequest,
  NewWITSVIDParams,
} from "../../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { WITSVID } from "../../rpc/gen/spire/api/types/witsvid.ts";
import type { Authority, WitRequest } from "../authority.ts";
import { toIdMessage, within, workloadIdFrom } from "./convert-id.ts";
import { okStatus, toStatus } from "./convert-status.ts";

export interface WitSvidOptions {
  readonly trustDomain: TrustDomain;
  readonly authority: Authority;
  /** @throws SpireError NOT_FOUND unless the agent may ask for SVIDs of the entry. */
  readonly authorizedEntry: (agent: SpiffeId, entryId: string) => Entry;
}

export interface WitSvids {
  /** @throws SpireError UNIMPLEMENTED when the server issues none. */
  mint(request: MintWITSVIDRequest): Promise<WITSVID>;
  /** One result an item. @throws SpireError UNIMPLEMENTED when the server issues none. */
  issue(
    agent: SpiffeId,
    params: readonly NewWITSVIDParams[],
    log: Logger,
  ): Promise<BatchNewWITSVIDResponse_Result[]>;
}

export function createWitSvids({ trustDomain, authority, authorizedEntry }: WitSvidOptions): WitSvids {
  const { signWitSvid } = authority;
  if (!signWitSvid) return { mint: refuse, issue: refuse };

  const sign = async (request: WitRequest): Promise<WITSVID> => {
    try {
      const { token, issuedAt, expiresAt } = await signWitSvid(request);
      return { token, id: toIdMessage(request.spiffeId), issuedAt, expiresAt, hint: "" };
    } catch (error) {
      throw error instanceof SpireError ? error.within("failed to sign WIT-SVID") : error;
    }
  };

  async function issueOne(agent: SpiffeId, params: NewWITSVIDParams): Promise<WITSVID> {
    if (params.entryId === "") throw invalidArgument("missing entry ID");
    if (params.publicKey.length === 0) throw invalidArgument("missing public key");
    // As in SPIRE: entries have no lifetime of their own for WIT-SVIDs.
    const { spiffeId, x509SvidTtl: ttlSeconds } = authorizedEntry(agent, params.entryId);
    const confirmation = confirmationFrom("malformed public key", params);
    return sign({ spiffeId, confirmation, ttlSeconds, holder: { agent, entryId: params.entryId } });
  }

  return {
    async mint({ id, ttl, ...key }) {
      const spiffeId = workloadIdFrom(id, trustDomain, "invalid SPIFFE ID");
      return sign({ spiffeId, confirmation: confirmationFrom("invalid public key", key), ttlSeconds: ttl });
    },
    issue: (agent, params, log) =>
      Promise.all(
        params.map(async (item) => {
          try {
            return { status: okStatus, svid: await issueOne(agent, item) };
          } catch (error) {
            return { status: toStatus(error, log), svid: undefined };
          }
        }),
      ),
  };
}

async function refuse(): Promise<never> {
  throw new SpireError("UNIMPLEMENTED", "WIT functionality is disabled");
}

interface KeyFields {
  readonly publicKey: Uint8Array;
  readonly signingAlgorithm: string;
}

function confirmationFrom(
  malformed: string,
  { publicKey: der, signingAlgorithm }: KeyFields,
): ConfirmationKey {
  const publicKey = within(malformed, () => importPublicKey(der));
  const confirmation = { publicKey, algorithm: signingAlgorithm };
  within("invalid signing algorithm or key type", () => requireConfirmation(confirmation));
  return confirmation;
}
