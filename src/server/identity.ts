/** The server's own X.509-SVID: what it shows on its TLS port, renewed at half life and with each new authority. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { exportPublicKeyInfo, generateKey, type KeyType, type LocalKey } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, measured, nullMetrics } from "../core/metrics.ts";
import { serverId } from "../core/spiffe-id.ts";
import { startTask } from "../core/tasks.ts";
import type { TlsIdentity } from "../rpc/tls.ts";
import type { Authority, SignedCertificate } from "./authority.ts";

const checkIntervalMs = 5_000;

export interface ServerIdentity {
  current(): TlsIdentity;
  /** Called after each renewal. Returns the function that ends the listening. */
  onChange(listener: () => void): () => void;
  stop(): Promise<void>;
}

export interface ServerIdentityOptions {
  readonly authority: Authority;
  readonly keyType: KeyType;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
}

/** Resolves with the first SVID issued; makes the first authorities when there are none. */
export async function createServerIdentity(options: ServerIdentityOptions): Promise<ServerIdentity> {
  const { authority, keyType, clock, log, metrics = nullMetrics } = options;
  const listeners = new Set<() => void>();
  const [firstKey] = await Promise.all([generateKey(keyType), authority.recover()]);
  const rotate = (newKey: () => Promise<LocalKey>) =>
    measured(metrics, ["svid", "rotate"], async () => issue(authority, await newKey()));
  let identity = await rotate(async () => firstKey);
  const logSigned = () =>
    log.debug("Signed X509 SVID", {
      spiffe_id: serverId(authority.trustDomain),
      expiration: isoTime(identity.issuedBy.notAfter),
    });
  logSigned();

  function isDue(): boolean {
    const { issuedBy } = identity;
    if (unixSeconds(clock) >= (issuedBy.notBefore + issuedBy.notAfter) / 2) return true;
    // Only an authority that is no longer in force can be tainted, so this covers tainting as well.
    return authority.state("x509", "active")?.authorityId !== issuedBy.authorityId;
  }

  const task = startTask({
    name: "server SVID rotation",
    clock,
    log,
    backoff: { initialMs: checkIntervalMs, maximumMs: 6 * checkIntervalMs },
    async run() {
      if (isDue()) {
        log.debug("Rotating server SVID");
        identity = await rotate(() => generateKey(keyType));
        logSigned();
        for (const listener of listeners) listener();
      }
      return checkIntervalMs;
    },
  });
  const stopListening = authority.onActivated(() => task.nudge());

  return {
    current: () => identity,
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async stop() {
      stopListening();
      await task.stop();
    },
  };
}

interface IssuedIdentity extends TlsIdentity {
  readonly issuedBy: SignedCertificate;
}

async function issue(authority: Authority, key: LocalKey): Promise<IssuedIdentity> {
  const signed = await authority.signServerSvid(exportPublicKeyInfo(key.publicKey));
  return { chain: signed.chain, privateKey: key.privateKey, issuedBy: signed };
}

/** RFC 3339 in whole seconds, as SPIRE logs times. */
const isoTime = (unix: number): string => new Date(unix * 1000).toISOString().replace(".000Z", "Z");
