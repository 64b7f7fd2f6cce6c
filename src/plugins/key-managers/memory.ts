/** Keys that live as long as the process: nothing to steal from a disk, a new authority after each start. */
import { generateKey, type LocalKey } from "../../core/keys.ts";
import type { LocalKeyManager, ManagedKey } from "./index.ts";

export function createMemoryKeyManager(): LocalKeyManager {
  const keys = new Map<string, ManagedKey & LocalKey>();
  return {
    async generate(id, type) {
      const key = { ...(await generateKey(type)), id };
      keys.set(id, key);
      return key;
    },
    async get(id) {
      return keys.get(id);
    },
    async list() {
      return [...keys.values()];
    },
  };
}
