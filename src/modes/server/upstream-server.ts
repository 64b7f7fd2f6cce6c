/** The connection of a nested server to the one above, in the name that the Workload API beside it gives. */
import { createServerConnection } from "../../agent/connection.ts";
import { bundleFromMessage } from "../../agent/messages.ts";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { serverId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { UpstreamServer } from "../../plugins/upstream-authorities/spire.ts";
import { dialTls } from "../../rpc/dial.ts";
import { BundleService } from "../../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { SVIDService } from "../../rpc/gen/spire/api/server/svid/v1/svid.ts";
import { createWorkloadIdentity, type WorkloadSvid } from "../../rpc/workload-identity.ts";
import { fromKey, toKeyMessage } from "../../server/api/convert-bundle.ts";

export interface UpstreamServerOptions {
  /** `host:port`. */
  readonly address: string;
  readonly workloadApiSocket: string;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Logger;
}

const callMs = 30_000;

/** Connects with the first call. */
export function connectUpstreamServer(options: UpstreamServerOptions): UpstreamServer {
  const { address, workloadApiSocket, trustDomain, clock, log } = options;
  const identity = createWorkloadIdentity({ socketPath: workloadApiSocket, clock, log });
  let svid: WorkloadSvid | undefined;
  const connection = createServerConnection(clock, () =>
    dialTls({
      address,
      serverId: serverId(trustDomain),
      bundle: () => svid?.bundle,
      ...(svid && { identity: svid }),
      clock,
    }),
  );
  identity.onChange(() => connection.reset());

  async function client<S>(definition: S) {
    svid = await identity.svid();
    if (svid.bundle.trustDomain !== trustDomain) {
      const message = `the Workload API gave "${svid.id}", but this server is of trust domain "${trustDomain}"`;
      throw new SpireError("FAILED_PRECONDITION", message);
    }
    return connection.client(definition);
  }

  return {
    async newDownstreamCa(csr, preferredTtl) {
      const api = await client(SVIDService);
      const request = { csr: Buffer.from(csr), preferredTtl };
      const { caCertChain } = await api
        .newDownstreamX509Ca(request, { timeoutMs: callMs })
        .catch((error: unknown) => {
          throw explained(SpireError.from(error), svid);
        });
      return caCertChain;
    },
    async publishJwtKey(key, signal) {
      const api = await client(BundleService);
      const request = { jwtAuthority: toKeyMessage(key) };
      const { jwtAuthorities } = await api.publishJwtAuthority(request, { signal, timeoutMs: callMs });
      return jwtAuthorities.map(fromKey);
    },
    async bundle(signal) {
      const api = await client(BundleService);
      const calling = { timeoutMs: callMs, ...(signal && { signal }) };
      const bundle = bundleFromMessage(await api.getBundle({ outputMask: undefined }, calling));
      if (bundle.trustDomain === trustDomain) return bundle;
      // Its authorities would become this trust domain's.
      const message = `the upstream server gave the bundle of "${bundle.trustDomain}" for that of "${trustDomain}"`;
      throw new SpireError("FAILED_PRECONDITION", message);
    },
    async close() {
      await identity.close();
      connection.close();
    },
  };
}

/** What to do about a refusal, which the server above words for any method. */
const explained = (error: SpireError, svid: WorkloadSvid | undefined): SpireError =>
  error.code === "PERMISSION_DENIED"
    ? new SpireError(
        error.code,
        `${error.message}; "${svid?.id}" needs a registration entry with "downstream" on the upstream server`,
        { cause: error },
      )
    : error;
