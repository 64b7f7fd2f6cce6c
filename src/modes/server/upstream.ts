/** The upstream authority that a server's settings name. */
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { UpstreamAuthority } from "../../plugins/upstream-authorities/index.ts";
import type { ServerSettings } from "./settings.ts";

export interface NamedUpstream {
  readonly name: string;
  readonly plugin: UpstreamAuthority;
}

/**
 * Writes nothing, so that it can be opened before anything else is.
 * @throws SpireError INVALID_ARGUMENT for files that don't hold.
 */
export async function openUpstreamAuthority(
  { upstreamAuthority: config, trustDomain }: ServerSettings,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<NamedUpstream | undefined> {
  if (!config) return undefined;
  const { type: name } = config;
  try {
    switch (config.type) {
      case "disk": {
        const { createDiskUpstream } = await import("../../plugins/upstream-authorities/disk.ts");
        return { name, plugin: await createDiskUpstream({ ...config, trustDomain, clock, log }) };
      }
      case "spire": {
        const { createSpireUpstream } = await import("../../plugins/upstream-authorities/spire.ts");
        const { connectUpstreamServer } = await import("./upstream-server.ts");
        const { serverAddress: address, workloadApiSocket } = config;
        const server = connectUpstreamServer({ address, workloadApiSocket, trustDomain, clock, log });
        return { name, plugin: createSpireUpstream({ server, clock }) };
      }
    }
  } catch (error) {
    throw SpireError.from(error).within(`failed to configure plugin "${name}"`);
  }
}
