/** What the server's health is made of: its database, its bundle, its signing, its rotation. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, generateKey } from "../core/keys.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import type { HealthChecks, PartHealth } from "../telemetry/health.ts";
import type { Authority } from "./authority.ts";
import { authorityKinds } from "./journal.ts";
import type { Registry } from "./registry.ts";
import { activateAt } from "./rotation.ts";

/** What a server has once it runs. */
export interface HealthParts {
  readonly registry: Pick<Registry, "trustDomain" | "bundles" | "store">;
  readonly authority: Pick<Authority, "signWorkloadSvid" | "state">;
  readonly clock: Clock;
}

/** A rotation that is late by more than this has failed about ten times over. */
const overdueSeconds = 600;

/**
 * SPIRE's checks and the names that it has for them.
 * @param parts undefined while the server starts or ends: then it is alive, and not ready.
 */
export function createServerChecks(parts: () => HealthParts | undefined): HealthChecks {
  let key: Promise<Uint8Array> | undefined;
  const publicKeyInfo = () => {
    key ??= generateKey("ec-p256").then(({ publicKey }) => exportPublicKeyInfo(publicKey));
    return key;
  };
  const once = (work: (running: HealthParts) => Promise<PartHealth>) => async () => {
    const running = parts();
    return running ? work(running) : idle;
  };
  return {
    "catalog.datastore": once(({ registry }) =>
      judged("list_bundle_err", async () => {
        await registry.store.bundles.list({ size: 1, token: "" });
      }),
    ),
    server: async () => {
      const running = parts();
      if (!running) return { ...idle, details: { get_bundle_err: "the server's APIs are not served now" } };
      const { registry } = running;
      return judged("get_bundle_err", async () => {
        const authorities = registry.bundles.get(registry.trustDomain)?.x509Authorities ?? [];
        if (authorities.length === 0) throw new SpireError("NOT_FOUND", "the own bundle has no authority");
      });
    },
    "server.ca": once(({ authority, registry }) =>
      judged("sign_x509_svid_err", async () => {
        await authority.signWorkloadSvid({
          spiffeId: makeSpiffeId(registry.trustDomain, "/for/health/check/only"),
          publicKeyInfo: await publicKeyInfo(),
          dnsNames: [],
          ttlSeconds: 0,
        });
      }),
    ),
    "server.ca.rotator": once(async ({ authority, clock }) => {
      const late = authorityKinds.some((kind) => {
        const active = authority.state(kind, "active");
        return active && unixSeconds(clock) > activateAt(active) + overdueSeconds;
      });
      return late ? failed("rotation_err", "rotations exceed the threshold number of failures") : well;
    }),
  };
}

const well: PartHealth = { live: true, ready: true };
const idle: PartHealth = { live: true, ready: false };
const failed = (name: string, message: string): PartHealth => ({
  live: false,
  ready: false,
  details: { [name]: message },
});

async function judged(name: string, work: () => Promise<void>): Promise<PartHealth> {
  try {
    await work();
    return well;
  } catch (error) {
    return failed(name, SpireError.from(error).message);
  }
}
