/** What keeps a server's or an agent's private keys: the contract, and the instances by name. */
import type { KeyType, LocalKey, SigningKey } from "../../core/keys.ts";

export interface ManagedKey extends SigningKey {
  /** The slot it lives in, such as `x509-CA-A`, `JWT-Signer-B` or `agent-svid-A`. */
  readonly id: string;
}

export interface KeyManager {
  /** Makes a new key under `id`, replacing the one that was there. It is durable when this resolves. */
  generate(id: string, type: KeyType): Promise<ManagedKey>;
  get(id: string): Promise<ManagedKey | undefined>;
  list(): Promise<readonly ManagedKey[]>;
}

/** A key manager whose keys are in this process; what an agent needs for its TLS key. */
export interface LocalKeyManager extends KeyManager {
  generate(id: string, type: KeyType): Promise<ManagedKey & LocalKey>;
  get(id: string): Promise<(ManagedKey & LocalKey) | undefined>;
  list(): Promise<readonly (ManagedKey & LocalKey)[]>;
}
