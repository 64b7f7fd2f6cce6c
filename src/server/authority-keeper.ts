/** Moves authorities through their life: prepared and published, active, old; each step recorded before it counts. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { exportPublicKeyInfo } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { authorityId } from "../core/x509/certificate.ts";
import type { KeyManager } from "../plugins/key-managers/index.ts";
import { type AuthorityLine, keysOf, type Move } from "./authority-line.ts";
import { type AuthorityKind, type AuthorityStatus, type JournalEntry, openJournal } from "./journal.ts";
import type { Registry } from "./registry.ts";

export interface AuthorityKeeper {
  /** The authority of a kind in that status. */
  state(kind: AuthorityKind, status: AuthorityStatus): JournalEntry | undefined;
  /** Makes the next authority of each kind and publishes it in the bundle. */
  prepare(kinds: readonly AuthorityKind[]): Promise<void>;
  /** Brings prepared authorities into force. @throws SpireError FAILED_PRECONDITION when one is missing. */
  activate(kinds: readonly AuthorityKind[]): Promise<void>;
  /** Runs `work` while nothing else moves authorities: what it saw before a step still holds at the step. */
  exclusively<T>(work: (steps: AuthoritySteps) => Promise<T>): Promise<T>;
  /** Sees to it that each kind has an authority that can sign now, however much time has passed. */
  recover(): Promise<void>;
  /** Called when another X.509 authority came into force. Returns the function that ends the listening. */
  onActivated(listener: () => void): () => void;
}

/** See `AuthorityKeeper`'s methods of the same names. */
export interface AuthoritySteps extends Pick<AuthorityKeeper, "state" | "prepare" | "activate"> {
  /** Changes the trust domain's bundle; whether its sequence number grows is for `change` to say. */
  changeBundle(change: (bundle: TrustBundle) => TrustBundle): Promise<void>;
}

export interface KeeperOptions {
  readonly lines: readonly AuthorityLine<unknown>[];
  readonly keyManager: KeyManager;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Begins with the authorities that journal, key manager and bundle agree on. */
export async function createKeeper(options: KeeperOptions): Promise<AuthorityKeeper> {
  const { lines, keyManager, registry, clock, log } = options;
  const { trustDomain } = registry;
  const listeners = new Set<() => void>();
  const journal = await openJournal(registry.store.journals, await x509AuthorityIds(keyManager), log);
  const published = registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
  for (const line of lines) await line.restore(journal.entries(line.kind), published);

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

  async function changeBundle(change: (bundle: TrustBundle) => TrustBundle): Promise<void> {
    await registry.mutateBundle(trustDomain, (current) => change(current ?? emptyBundle(trustDomain)));
  }

  async function prepare(concerned: readonly AuthorityLine<unknown>[]): Promise<void> {
    if (concerned.length === 0) return;
    const now = unixSeconds(clock);
    const made = await Promise.all(concerned.map(async (line) => ({ line, move: await line.make(now) })));
    await changeBundle((current) => {
      let bundle = current;
      for (const { line, move } of made) bundle = move.entries.reduce(line.publish, bundle);
      return { ...bundle, sequenceNumber: bundle.sequenceNumber + 1 };
    });
    await record(made.map(({ move }) => move));
  }

  async function activate(concerned: readonly AuthorityLine<unknown>[]): Promise<void> {
    if (concerned.length === 0) return;
    await record(concerned.map((line) => line.activation()));
    if (concerned.some(({ kind }) => kind === "x509")) for (const listener of listeners) listener();
  }

  const steps: AuthoritySteps = {
    state: (kind, status) => lines.find((line) => line.kind === kind)?.held(status),
    prepare: (kinds) => prepare(chosen(kinds)),
    activate: (kinds) => activate(chosen(kinds)),
    changeBundle,
  };

  return {
    state: steps.state,
    prepare: (kinds) => inTurn(() => steps.prepare(kinds)),
    activate: (kinds) => inTurn(() => steps.activate(kinds)),
    exclusively: (work) => inTurn(() => work(steps)),
    recover: () =>
      inTurn(async () => {
        const stuck = lines.filter((line) => !isUsable(line.held("active")));
        await prepare(stuck.filter((line) => !isUsable(line.held("prepared"))));
        await activate(stuck);
      }),
    onActivated(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

const x509AuthorityIds = async (keyManager: KeyManager): Promise<readonly string[]> =>
  (await keysOf(keyManager, "x509")).map(({ publicKey }) => authorityId(exportPublicKeyInfo(publicKey)));

const kindNames: Readonly<Record<AuthorityKind, string>> = { x509: "X509 CA", jwt: "JWT key" };

function logMove(log: Logger, kind: AuthorityKind, entry: JournalEntry): void {
  if (entry.status === "old") return;
  log.info(`${kindNames[kind]} ${entry.status === "active" ? "activated" : "prepared"}`, {
    slot: entry.slot,
    local_authority_id: entry.authorityId,
    issued_at: new Date(entry.issuedAt * 1000).toISOString(),
    expiration: new Date(entry.notAfter * 1000).toISOString(),
  });
}
