/** Rate limits per client address: token buckets that make a call wait for its turn. */
import { type Clock, sleep } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { type LimitName, limitsPerSecond } from "./server-methods.ts";

export interface RateLimitSettings {
  /** Limits AttestAgent. */
  readonly attestation: boolean;
  /** Limits the methods that sign: RenewAgent, BatchNewX509SVID, NewJWTSVID and their kind. */
  readonly signing: boolean;
}

/** A bucket that nobody used for one to two of these is dropped. */
const generationMs = 60_000;

interface Bucket {
  /** Below zero: promised to calls that wait. */
  tokens: number;
  /** When `tokens` was right, ms. */
  at: number;
}

export interface RateLimits {
  /** Whether calls are held to the limit at all. */
  applies(limit: LimitName): boolean;
  /**
   * Takes `count` tokens from the budget of `host`; resolves when they have come in, or when `signal` is aborted.
   * @returns whether that took time.
   * @throws SpireError RESOURCE_EXHAUSTED when `count` is more than the bucket ever holds.
   */
  take(limit: LimitName, host: string, count: number, signal: AbortSignal): Promise<boolean>;
}

export function createRateLimits(settings: RateLimitSettings, clock: Clock): RateLimits {
  const buckets = new Map<LimitName, GenerationMap>();
  return {
    applies: (limit) => isOn(limit, settings),
    async take(limit, host, count, signal) {
      if (!isOn(limit, settings)) return false;
      const perSecond = limitsPerSecond[limit];
      if (count > perSecond) {
        throw new SpireError("RESOURCE_EXHAUSTED", `rate (${count}) exceeds burst size (${perSecond})`);
      }
      const hosts = buckets.get(limit) ?? createGenerations(clock, perSecond);
      buckets.set(limit, hosts);
      const bucket = hosts.bucket(host);
      refill(bucket, perSecond, clock.now());
      bucket.tokens -= count;
      if (bucket.tokens >= 0) return false;
      await sleep(clock, (-bucket.tokens / perSecond) * 1000, signal);
      if (signal.aborted) bucket.tokens += count;
      return true;
    },
  };
}

function isOn(limit: LimitName, { attestation, signing }: RateLimitSettings): boolean {
  if (limit === "attest") return attestation;
  if (limit === "csr" || limit === "jwt" || limit === "wit") return signing;
  return true;
}

function refill(bucket: Bucket, perSecond: number, now: number): void {
  // A clock that stepped back must not take tokens away.
  const elapsedMs = Math.max(0, now - bucket.at);
  bucket.tokens = Math.min(perSecond, bucket.tokens + (elapsedMs / 1000) * perSecond);
  bucket.at = now;
}

interface GenerationMap {
  bucket(host: string): Bucket;
}

/** Buckets by host in two generations; the older one goes when a new one begins. */
function createGenerations(clock: Clock, burst: number): GenerationMap {
  let current = new Map<string, Bucket>();
  let previous = new Map<string, Bucket>();
  let since = clock.now();
  return {
    bucket(host) {
      const now = clock.now();
      if (now - since >= generationMs) {
        previous = now - since >= 2 * generationMs ? new Map() : current;
        current = new Map();
        since = now;
      }
      const bucket = current.get(host) ?? previous.get(host) ?? { tokens: burst, at: now };
      current.set(host, bucket);
      return bucket;
    },
  };
}
