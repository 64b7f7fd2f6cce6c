/** Gets X.509-SVIDs for workloads: a fresh key and request each, signed by the server in batches. */
import type { Entry } from "../core/entry.ts";
import { SpireError, statusCodes } from "../core/errors.ts";
import { exportPkcs8, exportPublicKeyInfo, generateKey, type KeyType } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { createCertificateRequest } from "../core/x509/csr.ts";
import { parseSvidId } from "../core/x509/verify.ts";
import type {
  BatchNewX509SVIDResponse_Result,
  NewX509SVIDParams,
  SVIDService,
} from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Client } from "../rpc/service.ts";
import { chainFromMessage } from "./messages.ts";
import { issuerIds, renewalTime } from "./validity.ts";

/** An X.509-SVID of a workload with its key, as the Workload API sends them. */
export interface WorkloadSvid {
  readonly spiffeId: SpiffeId;
  /** Concatenated DER, leaf first. */
  readonly chain: Uint8Array;
  /** PKCS #8 DER. */
  readonly key: Uint8Array;
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Unix seconds at which it is to be renewed. */
  readonly renewAt: number;
  /** Revision of the entry it was signed for. */
  readonly revisionNumber: number;
  /** IDs of the authorities in its chain. */
  readonly issuers: readonly string[];
}

export interface SvidSigner {
  /**
   * Signs SVIDs for the entries; `take` gets those of each batch as they come. An entry that the server refuses
   * is logged and left out.
   *
   * @throws SpireError when a whole batch of one fails, which the next try may mend.
   */
  sign(
    entries: readonly Entry[],
    take: (svids: ReadonlyMap<string, WorkloadSvid>) => void,
    signal: AbortSignal,
  ): Promise<void>;
}

/** The server takes no more than this many requests at once. */
const largestBatch = 500;
const timeoutMs = 30_000;

interface Pending {
  readonly entry: Entry;
  /** PKCS #8 DER. */
  readonly key: Uint8Array;
  /** DER SubjectPublicKeyInfo of `key`. */
  readonly publicKeyInfo: Uint8Array;
  readonly params: NewX509SVIDParams;
}

/** A batch that fails is tried again at half its size; each success doubles the size of the next. */
export function createSvidSigner(options: {
  readonly client: () => Client<SVIDService>;
  readonly keyType: KeyType;
  readonly log: Logger;
}): SvidSigner {
  const { client, keyType, log } = options;
  let batchSize = largestBatch;

  async function prepare(entry: Entry): Promise<Pending> {
    const key = await generateKey(keyType);
    const csr = await createCertificateRequest({ key, uri: entry.spiffeId });
    const params = { entryId: entry.id, csr: Buffer.from(csr) };
    return { entry, key: exportPkcs8(key), publicKeyInfo: exportPublicKeyInfo(key.publicKey), params };
  }

  /** One result that is refused or can't be used keeps no other entry from its SVID. */
  function readResult(
    pending: Pending,
    result: BatchNewX509SVIDResponse_Result | undefined,
  ): WorkloadSvid | undefined {
    const { id: entry_id, spiffeId: spiffe_id } = pending.entry;
    try {
      if (!result || (result.status && result.status.code !== statusCodes.OK)) {
        throw new SpireError("INTERNAL", result?.status?.message ?? "server sent no result");
      }
      return readSvid(pending, chainFromMessage(result.svid));
    } catch (error) {
      log.error("Failed to sign X509-SVID", { entry_id, spiffe_id, error });
      return undefined;
    }
  }

  async function signBatch(
    entries: readonly Entry[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, WorkloadSvid>> {
    const pending = await Promise.all(entries.map(prepare));
    const request = { params: pending.map(({ params }) => params) };
    const { results } = await client().batchNewX509Svid(request, { signal, timeoutMs });
    const svids = new Map<string, WorkloadSvid>();
    for (const [index, item] of pending.entries()) {
      const svid = readResult(item, results[index]);
      if (svid) svids.set(item.entry.id, svid);
    }
    return svids;
  }

  return {
    async sign(entries, take, signal) {
      for (let start = 0; start < entries.length; ) {
        const batch = entries.slice(start, start + batchSize);
        try {
          take(await signBatch(batch, signal));
          start += batch.length;
          batchSize = Math.min(largestBatch, batchSize * 2);
        } catch (error) {
          if (batch.length === 1 || signal.aborted || isFinal(error)) throw error;
          batchSize = Math.ceil(batch.length / 2);
        }
      }
    },
  };
}

/** A smaller batch doesn't help when it is the agent that is refused, or when nobody answers. */
const isFinal = (error: unknown): boolean => {
  const { code } = SpireError.from(error);
  return code === "PERMISSION_DENIED" || code === "UNAUTHENTICATED" || code === "UNAVAILABLE";
};

/**
 * What the server signed must be what was asked for: an entry that changed there since the last sync would
 * otherwise give its new ID to the workloads that matched the old one.
 */
function readSvid({ entry, key, publicKeyInfo }: Pending, chain: readonly Uint8Array[]): WorkloadSvid {
  const [leaf] = chain;
  if (!leaf) throw new SpireError("INTERNAL", "server sent no certificate");
  const certificate = parseCertificate(leaf);
  const spiffeId = parseSvidId(certificate);
  if (spiffeId !== entry.spiffeId) {
    throw new SpireError("INTERNAL", `server sent an X509-SVID of "${spiffeId}"`);
  }
  if (Buffer.compare(certificate.publicKeyInfo, publicKeyInfo) !== 0) {
    throw new SpireError("INTERNAL", "server sent an X509-SVID of another key");
  }
  return {
    spiffeId,
    chain: Buffer.concat(chain),
    key,
    expiresAt: certificate.notAfter,
    renewAt: renewalTime(certificate),
    revisionNumber: entry.revisionNumber,
    issuers: issuerIds(chain),
  };
}
