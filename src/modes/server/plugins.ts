/** Makes the plugins that a server's settings name. */
import type { NodeAttestorConfig } from "../../config/server-config.ts";
import { createDiskKeyManager } from "../../plugins/key-managers/disk.ts";
import type { KeyManager } from "../../plugins/key-managers/index.ts";
import { createMemoryKeyManager } from "../../plugins/key-managers/memory.ts";
import type { NodeVerifier } from "../../plugins/node-attestors/index.ts";
import { createJoinTokenVerifier } from "../../plugins/node-attestors/join-token.ts";
import type { ServerSettings } from "./settings.ts";

export function openKeyManager({ keyManager }: ServerSettings): KeyManager {
  return keyManager.type === "disk"
    ? createDiskKeyManager({ path: keyManager.keysPath })
    : createMemoryKeyManager();
}

export const createNodeVerifiers = (settings: ServerSettings): readonly NodeVerifier[] =>
  settings.nodeAttestors.map((config) => createNodeVerifier(config, settings));

function createNodeVerifier({ type }: NodeAttestorConfig, { joinTokenName }: ServerSettings): NodeVerifier {
  switch (type) {
    case "join_token":
      return createJoinTokenVerifier(joinTokenName);
  }
}
