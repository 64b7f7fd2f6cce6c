/** When authorities are replaced: the next one is published well before it signs, and signs well before the end. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { formatGoDuration } from "../core/go-text.ts";
import type { Logger } from "../core/log.ts";
import { startTask, type Task } from "../core/tasks.ts";
import type { AuthorityKeeper } from "./authority-keeper.ts";
import { type AuthorityKind, authorityKinds, type JournalEntry } from "./journal.ts";

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
  /** Whether an administrator's operation is replacing authorities of the kind. */
  readonly isHeld?: (kind: AuthorityKind) => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Looks every 10 s whether an authority is due, and replaces at once what time has overtaken. */
export function startRotation({ authority, isHeld, clock, log }: RotationOptions): Task {
  return startTask({
    name: "authority rotation",
    clock,
    log,
    backoff: { initialMs: checkIntervalMs, maximumMs: 6 * checkIntervalMs },
    async run() {
      await rotate(authority, unixSeconds(clock), isHeld);
      return checkIntervalMs;
    },
  });
}

/**
 * Unix seconds until which authorities are left alone while an administrator replaces them: half way between the two
 * moments. An operation that waits for longer must not keep the trust domain from going on.
 */
const leftAloneUntil = (active: Lifetime): number => (prepareAt(active) + activateAt(active)) / 2;

/** What can't be done for one kind keeps none of the others waiting. @throws the first failure, at the end. */
async function rotate(
  authority: AuthorityKeeper,
  now: number,
  isHeld: (kind: AuthorityKind) => boolean = () => false,
): Promise<void> {
  const steps = [
    () => authority.recover(),
    ...authorityKinds.map((kind) => () => rotateKind(authority, kind, now, isHeld(kind))),
  ];
  const failures: unknown[] = [];
  for (const step of steps) await step().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

async function rotateKind(
  authority: AuthorityKeeper,
  kind: AuthorityKind,
  now: number,
  isHeld: boolean,
): Promise<void> {
  const active = authority.state(kind, "active");
  if (!active || (isHeld && now < leftAloneUntil(active))) return;
  if (now >= prepareAt(active) && !authority.state(kind, "prepared")) await authority.prepare([kind]);
  if (now >= activateAt(active)) await authority.activate([kind]);
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
    const [reason, remedy] = longTtl(ttl, lifetimes.caTtlSeconds);
    log.warn(
      `${name} is too high${reason}. SVIDs with shorter lifetimes may be issued. Please set ${name} to ${remedy} ` +
        `to guarantee the full ${name} lifetime when CA rotations are scheduled.`,
    );
  }
}

const longestSvid = 7 * day;

/** Why a lifetime is too long, and what it should be, in SPIRE's words. */
function longTtl(ttl: number, caTtl: number): readonly [reason: string, remedy: string] {
  const atMost = `${shortDuration(Math.min(caTtl / 6, longestSvid))} or less`;
  if (ttl < longestSvid)
    return [
      " for the configured ca_ttl value",
      `${atMost}, or the ca_ttl to ${shortDuration(ttl * 6)} or more,`,
    ];
  if (caTtl >= longestSvid * 6) return ["", atMost];
  const both = `${shortDuration(longestSvid)} or less, and the ca_ttl to ${shortDuration(longestSvid * 6)} or more,`;
  return [" and the ca_ttl is too low", both];
}

/** Go's notation without parts of zero at the end: `4h`. */
const shortDuration = (seconds: number): string =>
  formatGoDuration(Math.floor(seconds) * 1_000)
    .replace(/m0s$/, "m")
    .replace(/h0m$/, "h");
