/** An authority that counts what it signs, and a key manager whose calls are counted and timed. */
import { type Metrics, measured, nullMetrics } from "../core/metrics.ts";
import type { KeyManager } from "../plugins/key-managers/index.ts";
import type { Authority } from "./authority.ts";

/** Counts by what was signed; the authority itself when nothing is collected. */
export function countSignatures(authority: Authority, metrics: Metrics): Authority {
  if (metrics === nullMetrics) return authority;
  const counted = <A extends readonly unknown[], T>(what: string, sign: (...given: A) => Promise<T>) => {
    const name = ["server_ca", "sign", what];
    return async (...given: A): Promise<T> => {
      const signed = await sign(...given);
      metrics.counter(name, 1);
      return signed;
    };
  };
  const { signWitSvid } = authority;
  return {
    ...authority,
    signWorkloadSvid: counted("x509_svid", authority.signWorkloadSvid),
    signAgentSvid: counted("x509_svid", authority.signAgentSvid),
    signServerSvid: counted("x509_svid", authority.signServerSvid),
    signDownstreamCa: counted("x509_ca_svid", authority.signDownstreamCa),
    signJwtSvid: counted("jwt_svid", authority.signJwtSvid),
    ...(signWitSvid && { signWitSvid: counted("wit_svid", signWitSvid) }),
  };
}

/** The key manager itself when nothing is collected. */
export function measureKeyManager(keyManager: KeyManager, metrics: Metrics): KeyManager {
  if (metrics === nullMetrics) return keyManager;
  const name = (what: string) => ["server_key_manager", what];
  return {
    generate: (id, type) => measured(metrics, name("generate_key"), () => keyManager.generate(id, type)),
    get: (id) => measured(metrics, name("get_public_key"), () => keyManager.get(id)),
    list: () => measured(metrics, name("get_public_keys"), () => keyManager.list()),
  };
}
