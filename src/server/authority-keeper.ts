/** Moves authorities through their life: prepared and published, active, old; each step recorded before it counts. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { exportPublicKeyInfo } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, nullMetrics, startCall } from "../core/metrics.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { authorityId } from "../core/x509/certificate.ts";
import type { KeyManager } from "../plugins/key-managers/index.ts";
import { type AuthorityLine, keysOf, type Move } from "./authority-line.ts";
import { type AuthorityKind, type AuthorityStatus, type JournalEntry, openJournal } from "./journal.ts";
import type { Registry } from "./registry.ts";
import { upstreamAuthorityId } from "./upstream.ts";

export interface AuthorityKeeper {
  /** The authority of a kind in that status. */
  state(kind: AuthorityKind, status: AuthorityStatus): JournalEntry | undefined;
  /**
   * Makes the next authority of each kind and publishes it in the bundle.
   * @throws SpireError when one can't be made; the others are.
   */
  prepare(kinds: readonly AuthorityKind[]): Promise<void>;
  /** Brings prepared authorities into force. @throws SpireError FAILED_PRECONDITION when one is missing. */
  activate(kinds: readonly AuthorityKind[]): Promise<void>;
  /** Runs `work` while nothing else moves authorities: what it saw before a step still holds at the step. */
  exclusively<T>(work: (steps: AuthoritySteps) => Promise<T>): Promise<T>;
  /**
   * Sees to it that each kind has an authority that can sign now, however much time has passed. Who calls while it is
   * under way waits for the same outcome.
   * @throws SpireError when one can't be made; the others can sign.
   */
  recover(): Promise<void>;
  /** Called when another X.509 authority came into force. Returns the function that ends the listening. */
  onActivated(listener: () => void): () => void;
}

/** See `AuthorityKeeper`'s methods of the same names. */
export interface AuthoritySteps extends Pick<AuthorityKeeper, "state" | "prepare" | "activate"> {
  /**
   * Changes the trust domain's bundle; whether its sequence number grows is for `change` to say.
   *
   * @param reason of the change, for the bundle's history.
   */
  changeBundle(change: (bundle: TrustBundle) => TrustBundle, reason: string): Promise<void>;
  /** The old authority comes into force again, and the one in force becomes old. @throws as `activate`. */
  revert(kinds: readonly AuthorityKind[]): Promise<void>;
  /** Forgets prepared authorities, so that they never come into force; the bundle is left as it is. */
  discard(kinds: readonly AuthorityKind[]): void;
  /** The authorities that this server made, as far back as its journal goes; oldest first. */
  journaled(kind: AuthorityKind): readonly JournalEntry[];
  /** Holds again the authorities of the journal that the bundle has (again) and whose key is at hand. */
  takeUp(): Promise<void>;
}

export interface KeeperOptions {
  readonly lines: readonly AuthorityLine<unknown>[];
  readonly keyManager: KeyManager;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
}

/** An authority that is yet to be published and recorded. */
interface Made {
  readonly line: AuthorityLine<unknown>;
  readonly move: Move;
}

/** Begins with the authorities that journal, key manager and bundle agree on. */
export async function createKeeper(options: KeeperOptions): Promise<AuthorityKeeper> {
  const { lines, keyManager, registry, clock, log, metrics = nullMetrics } = options;
  const { trustDomain } = registry;
  const listeners = new Set<() => void>();
  const journal = await openJournal(registry.store.journals, await x509AuthorityIds(keyManager), log);
  await takeUp();

  async function takeUp(): Promise<void> {
    const published = registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
    for (const line of lines) await line.restore(journal.entries(line.kind), published);
  }

  const chosen = (kinds: readonly AuthorityKind[]) => lines.filter(({ kind }) => kinds.includes(kind));
  const isUsable = (entry: JournalEntry | undefined) =>
    entry !== undefined && entry.notAfter > unixSeconds(clock);

  let moving: Promise<void> = Promise.resolve();
  /** One move at a time: two of them would fight over the free slot. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = moving.then(work);
    moving = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  async function record(moves: readonly Move[]): Promise<void> {
    await journal.write(moves.flatMap(({ kind, entries }) => entries.map((entry) => ({ kind, entry }))));
    for (const move of moves) {
      move.apply();
      for (const entry of move.entries) logMove(log, move.kind, entry);
    }
  }

  async function changeBundle(change: (bundle: TrustBundle) => TrustBundle, reason: string): Promise<void> {
    await registry.mutateBundle(
      trustDomain,
      (current) => change(current ?? emptyBundle(trustDomain)),
      reason,
    );
  }

  async function prepare(concerned: readonly AuthorityLine<unknown>[]): Promise<void> {
    if (concerned.length === 0) return;
    const calls = concerned.map(({ kind }) => startCall(metrics, preparations[kind]));
    for (const { kind, held } of concerned) {
      log.debug(`Preparing ${kindNames[kind]}`, { slot: held("active")?.slot === "A" ? "B" : "A" });
    }
    const end = (failure?: unknown) => {
      for (const call of calls) call(failure);
    };
    try {
      await makeNext(concerned);
      end();
    } catch (error) {
      end(error);
      throw error;
    }
  }

  async function makeNext(concerned: readonly AuthorityLine<unknown>[]): Promise<void> {
    const now = unixSeconds(clock);
    const outcomes = await Promise.allSettled(
      concerned.map(async (line) => ({ line, move: await line.make(now) })),
    );
    const made = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    if (made.length > 0) await publish(made);
    const failure = outcomes.find((outcome) => outcome.status === "rejected");
    if (failure) throw failure.reason;
  }

  async function publish(made: readonly Made[]): Promise<void> {
    await changeBundle(
      (current) => {
        let bundle = current;
        for (const { line, move } of made) bundle = move.entries.reduce(line.publish, bundle);
        return { ...bundle, sequenceNumber: bundle.sequenceNumber + 1 };
      },
      `${made.map(({ line }) => kindNames[line.kind]).join(", ")} prepared`,
    );
    await record(made.map(({ move }) => move));
  }

  async function activate(
    concerned: readonly AuthorityLine<unknown>[],
    from: "prepared" | "old" = "prepared",
  ): Promise<void> {
    if (concerned.length === 0) return;
    await record(concerned.map((line) => line.activation(from)));
    for (const { kind } of concerned) metrics.counter(activations[kind], 1);
    const x509 = concerned.find(({ kind }) => kind === "x509")?.held("active");
    if (x509) {
      const ttl = x509.notAfter - clock.now() / 1_000;
      log.debug("Successfully rotated X.509 CA", { trust_domain_id: `spiffe://${trustDomain}`, ttl });
    }
    if (concerned.some(({ kind }) => kind === "x509")) for (const listener of listeners) listener();
  }

  let recovering: Promise<void> | undefined;

  async function recover(): Promise<void> {
    const stuck = lines.filter((line) => !isUsable(line.held("active")));
    try {
      await prepare(stuck.filter((line) => !isUsable(line.held("prepared"))));
    } finally {
      await activate(stuck.filter((line) => isUsable(line.held("prepared"))));
    }
  }

  const steps: AuthoritySteps = {
    state: (kind, status) => lines.find((line) => line.kind === kind)?.held(status),
    prepare: (kinds) => prepare(chosen(kinds)),
    activate: (kinds) => activate(chosen(kinds)),
    changeBundle,
    revert: (kinds) => activate(chosen(kinds), "old"),
    discard(kinds) {
      for (const line of chosen(kinds)) line.discard();
    },
    journaled: (kind) => journal.entries(kind),
    takeUp,
  };

  return {
    state: steps.state,
    prepare: (kinds) => inTurn(() => steps.prepare(kinds)),
    activate: (kinds) => inTurn(() => steps.activate(kinds)),
    exclusively: (work) => inTurn(() => work(steps)),
    recover() {
      recovering ??= inTurn(recover).finally(() => {
        recovering = undefined;
      });
      return recovering;
    },
    onActivated(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

const x509AuthorityIds = async (keyManager: KeyManager): Promise<readonly string[]> =>
  (await keysOf(keyManager, "x509")).map(({ publicKey }) => authorityId(exportPublicKeyInfo(publicKey)));

/** SPIRE's names of metrics. */
const preparations: Readonly<Record<AuthorityKind, readonly string[]>> = {
  x509: ["ca", "manager", "x509_ca", "prepare"],
  jwt: ["ca", "manager", "jwt_key", "prepare"],
  wit: ["ca", "manager", "wit_key", "prepare"],
};

const activations: Readonly<Record<AuthorityKind, readonly string[]>> = {
  x509: ["ca", "manager", "x509_ca", "activate"],
  jwt: ["manager", "jwt_key", "activate"],
  wit: ["manager", "wit_key", "activate"],
};

const kindNames: Readonly<Record<AuthorityKind, string>> = {
  x509: "X509 CA",
  jwt: "JWT key",
  wit: "WIT key",
};

function logMove(log: Logger, kind: AuthorityKind, entry: JournalEntry): void {
  if (entry.status === "old") return;
  log.info(`${kindNames[kind]} ${entry.status === "active" ? "activated" : "prepared"}`, {
    slot: entry.slot,
    local_authority_id: entry.authorityId,
    ...(kind === "x509" && {
      upstream_authority_id: upstreamAuthorityId(entry),
      ...(entry.status === "prepared" && { self_signed: entry.upstreamChain.length === 0 }),
    }),
    issued_at: isoTime(entry.issuedAt),
    expiration: isoTime(entry.notAfter),
  });
}

/** RFC 3339 in whole seconds, as SPIRE logs times. */
const isoTime = (unix: number): string => new Date(unix * 1000).toISOString().replace(".000Z", "Z");
