/** An authority on a store in memory and a clock that tests move, also by a jump over everything. */
import { createManualClock, type ManualClock } from "../../src/core/clock.ts";
import { nullLogger } from "../../src/core/log.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { createSqliteStore } from "../../src/plugins/datastores/sqlite/store.ts";
import type { KeyManager } from "../../src/plugins/key-managers/index.ts";
import { createMemoryKeyManager } from "../../src/plugins/key-managers/memory.ts";
import { type AuthorityOptions, createAuthority } from "../../src/server/authority.ts";
import { createRegistry, type Registry } from "../../src/server/registry.ts";

export const trustDomain = parseTrustDomain("example.org");
export const hour = 3_600;
/** Seconds; the CA lives 24 h unless a test says otherwise. */
export const caTtl = 24 * hour;
export const startSeconds = 1_800_000_000;

export interface SteppingClock extends ManualClock {
  /** Time jumps, as after a suspend or a correction: no timer in between fires on time. */
  jump(byMs: number): void;
}

function createSteppingClock(startMs: number): SteppingClock {
  const clock = createManualClock(startMs);
  let ahead = 0;
  return {
    now: () => clock.now() + ahead,
    after: clock.after,
    advance: clock.advance,
    jump(byMs) {
      ahead += byMs;
    },
  };
}

/** Resolves once `condition` holds; what it waits for needs turns of the event loop, not time. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

export interface AuthorityFixture {
  readonly clock: SteppingClock;
  readonly registry: Registry;
  readonly keyManager: KeyManager;
  /** A new authority on the same store and keys, as after a restart. */
  open(overrides?: Partial<AuthorityOptions>): ReturnType<typeof createAuthority>;
  close(): Promise<void>;
}

/** @param start unix seconds at which its clock begins. */
export async function createAuthorityFixture(start = startSeconds): Promise<AuthorityFixture> {
  const clock = createSteppingClock(start * 1000);
  const log = nullLogger;
  const store = await createSqliteStore({ path: ":memory:", clock });
  const registry = await createRegistry({ store, trustDomain, clock, log });
  const keyManager = createMemoryKeyManager();
  return {
    clock,
    registry,
    keyManager,
    open: (overrides = {}) =>
      createAuthority({
        trustDomain,
        keyManager,
        registry,
        clock,
        log,
        caKeyType: "ec-p256",
        jwtKeyType: "ec-p256",
        caTtlSeconds: caTtl,
        x509SvidTtlSeconds: hour,
        jwtSvidTtlSeconds: 300,
        agentTtlSeconds: 2 * hour,
        ...overrides,
      }),
    async close() {
      await registry.close();
      await store.close();
    },
  };
}
