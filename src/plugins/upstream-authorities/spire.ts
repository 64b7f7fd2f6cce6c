/** An upstream authority that is a SPIRE server: this one is nested below it, in the same trust domain. */
import { type Clock, sleep } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import { emptyBundle, equalBundles, type TokenAuthority, type TrustBundle } from "../../core/trust-bundle.ts";
import type { UpstreamAuthority } from "./index.ts";

/** What is asked of the server above, by whatever connection; this server's own SVID authorizes it. */
export interface UpstreamServer {
  /** NewDownstreamX509CA: the new CA first, then what leads to a root; DER. */
  newDownstreamCa(csr: Uint8Array, preferredTtlSeconds: number): Promise<readonly Uint8Array[]>;
  /** PublishJWTAuthority: all keys that are published. */
  publishJwtKey(key: TokenAuthority, signal: AbortSignal): Promise<readonly TokenAuthority[]>;
  /** GetBundle, taint included. */
  bundle(signal?: AbortSignal): Promise<TrustBundle>;
  close(): Promise<void>;
}

export interface SpireUpstreamOptions {
  readonly server: UpstreamServer;
  readonly clock: Clock;
}

/** As SPIRE polls. */
const pollIntervalMs = 5_000;

/** Connects with the first use: a server whose own CA holds starts without the one above. */
export function createSpireUpstream({ server, clock }: SpireUpstreamOptions): UpstreamAuthority {
  return {
    async mint(csr, preferredTtlSeconds) {
      const chain = await within("unable to request a new Downstream X509CA", () =>
        server.newDownstreamCa(csr, preferredTtlSeconds),
      );
      // The answer has roots too, but doesn't say which of them are tainted.
      const { x509Authorities } = await within("failed to fetch bundle from upstream server", () =>
        server.bundle(),
      );
      return { chain, roots: x509Authorities };
    },
    publishJwtKey: (key, signal) =>
      within("failed to push JWT authority", () => server.publishJwtKey(key, signal)),
    async *updates(signal) {
      let last: TrustBundle | undefined;
      while (!signal.aborted) {
        const now = await within("failed to fetch bundle from upstream server", () => server.bundle(signal));
        if (!last || !sayTheSame(last, now)) {
          last = now;
          yield now;
        }
        await sleep(clock, pollIntervalMs, signal);
      }
    },
    close: () => server.close(),
  };
}

/** What doesn't concern this server is left aside, such as sequence numbers, which differ from server to server. */
const sayTheSame = (a: TrustBundle, b: TrustBundle): boolean => equalBundles(concern(a), concern(b));

const concern = ({ trustDomain, x509Authorities, jwtAuthorities }: TrustBundle): TrustBundle => ({
  ...emptyBundle(trustDomain),
  x509Authorities,
  jwtAuthorities,
});

async function within<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw SpireError.from(error).within(what);
  }
}
