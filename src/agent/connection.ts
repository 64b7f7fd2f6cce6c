/** The agent's connection to its server, dialled anew whenever the agent shows another SVID. */
import type { Clock } from "../core/clock.ts";
import type { Channel } from "../rpc/dial.ts";
import type { Client } from "../rpc/service.ts";

export interface ServerConnection {
  client<S>(definition: S): Client<S>;
  /** The next call connects anew; calls under way get time to end. */
  reset(): void;
  close(): void;
}

/** Longer than any call's time limit would be pointless: an agent calls again. */
const oldChannelMs = 5_000;

export function createServerConnection(clock: Clock, dial: () => Channel): ServerConnection {
  let channel: Channel | undefined;
  const leaving = new Map<Channel, () => void>();
  return {
    client(definition) {
      channel ??= dial();
      return channel.client(definition);
    },
    reset() {
      const old = channel;
      channel = undefined;
      if (!old) return;
      const cancel = clock.after(oldChannelMs, () => {
        leaving.delete(old);
        old.close();
      });
      leaving.set(old, cancel);
    },
    close() {
      channel?.close();
      channel = undefined;
      for (const [old, cancel] of leaving) {
        cancel();
        old.close();
      }
      leaving.clear();
    },
  };
}
