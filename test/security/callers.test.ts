/** Who a TLS connection belongs to: never somebody else's, whatever a client sends along. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { systemClock, unixSeconds } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from "../../src/core/spiffe-id.ts";
import { type Channel, dialTls } from "../../src/rpc/dial.ts";
import { type Listener, listenTls } from "../../src/rpc/listen.ts";
import { bindService } from "../../src/rpc/service.ts";
import {
  createRecordingLogger,
  createTestAuthority,
  type TestAuthority,
  testDefinition,
} from "../../src/rpc/testing.ts";
import type { TlsIdentity } from "../../src/rpc/tls.ts";

const trustDomain = parseTrustDomain("example.org");
const idOf = (path: string): SpiffeId => parseSpiffeId(`spiffe://example.org${path}`);
const serverId = idOf("/spire/server");

let authority: TestAuthority;
let listener: Listener;
let seen: string[];

beforeEach(async () => {
  authority = await createTestAuthority(trustDomain, unixSeconds(systemClock));
  const identity = await authority.issue(serverId);
  seen = [];
  listener = await listenTls({
    host: "127.0.0.1",
    port: 0,
    log: createRecordingLogger(),
    services: [
      bindService(testDefinition, {
        async echo(_, { caller }) {
          const id = caller.svid?.id ?? "anonymous";
          seen.push(id);
          return id;
        },
      }),
    ],
    tls: {
      identity: () => identity,
      onIdentityChange: () => () => {},
      bundle: (asked) => (asked === trustDomain ? authority.bundle : undefined),
      clock: systemClock,
    },
  });
});
afterEach(() => listener.close(0));

function dial(identity?: TlsIdentity): Channel {
  return dialTls({
    address: listener.address,
    bundle: () => authority.bundle,
    serverId,
    clock: systemClock,
    ...(identity && { identity }),
  });
}

/** The ID that the server takes the caller for, or the code of its refusal. */
async function takenFor(identity?: TlsIdentity): Promise<string> {
  const channel = dial(identity);
  try {
    return await channel
      .client(testDefinition)
      .echo("")
      .catch((error: unknown) => SpireError.from(error).code);
  } finally {
    channel.close();
  }
}

test("many connections that come and go at the same time are each taken for their own client", async () => {
  const identities = await Promise.all(
    Array.from({ length: 12 }, async (_, number) => {
      const id = idOf(`/spire/agent/${number}`);
      return { id, identity: await authority.issue(id) };
    }),
  );
  const turns = Array.from({ length: 5 }, () => [
    ...identities.map(async ({ id, identity }) => [id, await takenFor(identity)]),
    ...identities.map(async () => ["anonymous", await takenFor()]),
  ]).flat();
  for (const [expected, actual] of await Promise.all(turns)) expect(actual).toBe(expected);
});

describe("a client is who it proves to be", () => {
  test("also with another's certificate behind its own", async () => {
    const own = await authority.issue(idOf("/own"));
    const victim = await authority.issue(idOf("/spire/agent/victim"));
    const chain = [...own.chain, ...victim.chain, ...own.chain, ...victim.chain];
    expect(await takenFor({ ...own, chain })).toBe(idOf("/own"));
  });

  test("and nobody with a chain of which only another's part holds", async () => {
    const stranger = await createTestAuthority(trustDomain, unixSeconds(systemClock));
    const victim = await authority.issue(idOf("/spire/agent/victim"), { intermediate: true });
    for (const intermediate of [false, true]) {
      const own = await stranger.issue(idOf("/spire/agent/victim"), { intermediate });
      expect(await takenFor({ ...own, chain: [...own.chain, ...victim.chain] })).toBe("UNAVAILABLE");
    }
    expect(seen).toEqual([]);
  });

  test("and nobody with an authority's own certificate, or one of its CA", async () => {
    const stranger = await createTestAuthority(trustDomain, unixSeconds(systemClock));
    const { privateKey } = await authority.issue(idOf("/own"));
    const roots = [...authority.bundle.x509Authorities, ...stranger.bundle.x509Authorities];
    for (const { der } of roots) {
      // A client can't prove these; that it can't even be tried is its own library's merit.
      await takenFor({ chain: [der], privateKey });
    }
    expect(seen).toEqual([]);
  });
});
