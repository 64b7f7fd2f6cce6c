/** Makes the plugins that a server's settings name. */
import type {
  CredentialComposerConfig,
  NodeAttestorConfig,
  ServerConfig,
} from "../../config/server-config.ts";
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { CredentialComposer } from "../../plugins/credential-composers/index.ts";
import { uniqueId } from "../../plugins/credential-composers/uniqueid.ts";
import { createDiskKeyManager } from "../../plugins/key-managers/disk.ts";
import type { KeyManager } from "../../plugins/key-managers/index.ts";
import { createMemoryKeyManager } from "../../plugins/key-managers/memory.ts";
import type { NodeVerifier } from "../../plugins/node-attestors/index.ts";
import { createJoinTokenVerifier } from "../../plugins/node-attestors/join-token.ts";
import { needsRestart, type Reconfigure } from "../reconfigure.ts";
import type { ServerSettings } from "./settings.ts";

export function openKeyManager({ keyManager }: ServerSettings): KeyManager {
  return keyManager.type === "disk"
    ? createDiskKeyManager({
        path: keyManager.keysPath,
        restoredBy: "spire server restore -withKeys FILE",
      })
    : createMemoryKeyManager();
}

export interface NodeVerifiers {
  readonly verifiers: readonly NodeVerifier[];
  /** Puts a node attestor with new options in the place of the one before; attestations under way end with that. */
  readonly reconfigure: Reconfigure<Pick<ServerConfig, "nodeAttestors">>;
}

interface VerifierDeps {
  readonly clock: Clock;
  readonly log: Logger;
}

/** @throws SpireError INVALID_ARGUMENT, FAILED_PRECONDITION for options that a node attestor can't take. */
export async function createNodeVerifiers(
  settings: ServerSettings,
  deps: VerifierDeps,
): Promise<NodeVerifiers> {
  const current = new Map<string, NodeVerifier>();
  for (const config of settings.nodeAttestors) {
    current.set(config.type, await createNodeVerifier(config, settings, deps));
  }
  const verifiers = [...current].map(
    ([name, first]): NodeVerifier => ({
      name,
      verify: (...request) => (current.get(name) ?? first).verify(...request),
    }),
  );
  return {
    verifiers,
    async reconfigure(plugin, { nodeAttestors }) {
      const config = nodeAttestors.find(({ type }) => type === plugin.name);
      if (plugin.kind !== "NodeAttestor" || !config || !current.has(plugin.name)) throw needsRestart(plugin);
      current.set(plugin.name, await createNodeVerifier(config, settings, deps));
    },
  };
}

export const createCredentialComposers = ({
  credentialComposers,
}: ServerSettings): readonly CredentialComposer[] => credentialComposers.map(({ type }) => composers[type]);

const composers: Readonly<Record<CredentialComposerConfig["type"], CredentialComposer>> = {
  uniqueid: uniqueId,
};

async function createNodeVerifier(
  config: NodeAttestorConfig,
  { joinTokenName }: ServerSettings,
  deps: VerifierDeps,
): Promise<NodeVerifier> {
  switch (config.type) {
    case "join_token":
      return createJoinTokenVerifier(joinTokenName);
    case "x509pop":
      return (await import("../../plugins/node-attestors/x509pop/verify.ts")).openX509popVerifier({
        ...config,
        clock: deps.clock,
        log: deps.log.with({ subsystem_name: "built-in_plugin.x509pop" }),
      });
  }
}
