/** When authorities are replaced: the next one is published well before it signs, and signs well before the end. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { startTask, type Task } from "../core/tasks.ts";
import type { AuthorityKeeper } from "./authority-keeper.ts";
import { authorityKinds, type JournalEntry } from "./journal.ts";

const day = 86_400;
const checkIntervalMs = 10_000;

type Lifetime = Pick<JournalEntry, "issuedAt" | "notAfter">;

/** Unix seconds from which the successor is to be prepared: half of the lifetime before its end, at most 30 days. */
export const prepareAt = ({ issuedAt, notAfter }: Lifetime): number =>
  notAfter - Math.min((notAfter - issuedAt) / 2, 30 * day);

/** Unix seconds from which the successor signs: a sixth of the lifetime before its end, at most 7 days. */
export const activateAt = ({ issuedAt, notAfter }: Lifetime): number =>
  notAfter - Math.min((notAfter - issuedAt) / 6, 7 * day);

export interface RotationOptions {
  readonly authority: AuthorityKeeper;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Looks every 10 s whether an authority is due, and replaces at once what time has overtaken. */
export function startRotation({ authority, clock, log }: RotationOptions): Task {
  return startTask({
    name: "authority rotation",
    clock,
    log,
    backoff: { initialMs: checkIntervalMs, maximumMs: 6 * checkIntervalMs },
    async run() {
      await rotate(authority, unixSeconds(clock));
      return checkIntervalMs;
    },
  });
}

async function rotate(authority: AuthorityKeeper, now: number): Promise<void> {
  await authority.recover();
  for (const kind of authorityKinds) {
    const active = authority.state(kind, "active");
    if (!active) continue;
    if (now >= prepareAt(active) && !authority.state(kind, "prepared")) await authority.prepare([kind]);
    if (now >= activateAt(active)) await authority.activate([kind]);
  }
}

/** Lifetimes in seconds, as the configuration names them. */
export interface Lifetimes {
  readonly caTtlSeconds: number;
  readonly defaultX509SvidTtlSeconds: number;
  readonly defaultJwtSvidTtlSeconds: number;
  readonly agentTtlSeconds?: number;
}

/** Warns of SVID lifetimes that rotation has to cut short at times: those beyond the last sixth of the CA's. */
export function warnOfLongTtls(lifetimes: Lifetimes, log: Logger): void {
  const longest = Math.min(lifetimes.caTtlSeconds / 6, 7 * day);
  const settings = {
    default_x509_svid_ttl: lifetimes.defaultX509SvidTtlSeconds,
    default_jwt_svid_ttl: lifetimes.defaultJwtSvidTtlSeconds,
    agent_ttl: lifetimes.agentTtlSeconds ?? 0,
  };
  for (const [name, ttl] of Object.entries(settings)) {
    if (ttl <= longest) continue;
    log.warn(
      `${name} is too high for the configured ca_ttl value: SVIDs with shorter lifetimes may be issued. ` +
        `Set ${name} to ${Math.floor(longest)}s or less, or ca_ttl to ${Math.ceil(ttl * 6)}s or more.`,
    );
  }
}
