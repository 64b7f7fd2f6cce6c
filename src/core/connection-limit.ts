/** How many connections of strangers may stand at a time, so that nobody uses up the process's descriptors. */

interface Connection {
  destroy(): void;
}

export interface ConnectionLimit<C extends Connection> {
  /**
   * Counts a connection, or moves it to another host. When there are too many, the host that has most of them loses
   * its oldest: whoever floods, pushes out their own.
   */
  add(connection: C, host: string): void;
  /** Of a connection that ended, or whose client has shown an SVID. */
  remove(connection: C): void;
}

/** @param onDrop told the host whose connection was ended. */
export function createConnectionLimit<C extends Connection>(
  most: number,
  onDrop: (host: string) => void,
): ConnectionLimit<C> {
  const hostOf = new Map<C, string>();
  const hosts = new Map<string, Set<C>>();

  function remove(connection: C): void {
    const host = hostOf.get(connection);
    if (host === undefined) return;
    hostOf.delete(connection);
    const connections = hosts.get(host);
    connections?.delete(connection);
    if (connections?.size === 0) hosts.delete(host);
  }

  function dropOne(): void {
    let busiest: { host: string; connections: Set<C> } | undefined;
    for (const [host, connections] of hosts) {
      if (connections.size > (busiest?.connections.size ?? 0)) busiest = { host, connections };
    }
    const [oldest] = busiest?.connections ?? [];
    if (!busiest || !oldest) return;
    remove(oldest);
    oldest.destroy();
    onDrop(busiest.host);
  }

  return {
    add(connection, host) {
      remove(connection);
      hostOf.set(connection, host);
      const connections = hosts.get(host) ?? new Set();
      hosts.set(host, connections.add(connection));
      if (hostOf.size > most) dropOne();
    },
    remove,
  };
}
