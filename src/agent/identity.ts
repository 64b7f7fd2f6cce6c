/** Who the agent is: its SVID and key, the bundle it trusts, and how both are got, kept and renewed. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, type LocalKey } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { type SpiffeId, type TrustDomain, trustDomainOf } from "../core/spiffe-id.ts";
import { emptyBundle, equalBundles, mergeBundles, type TrustBundle } from "../core/trust-bundle.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { createCertificateRequest } from "../core/x509/csr.ts";
import { parseSvidId } from "../core/x509/verify.ts";
import type { LocalKeyManager } from "../plugins/key-managers/index.ts";
import type { Channel } from "../rpc/dial.ts";
import { AgentService } from "../rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import type { TlsIdentity } from "../rpc/tls.ts";
import { attestAgent, renewAgent } from "./attest.ts";
import { type AgentBootstrap, bootstrapBundle } from "./bootstrap.ts";
import { denialOf } from "./denial.ts";
import { bundleFromMessage } from "./messages.ts";
import type { NodeProofs } from "./proofs.ts";
import type { StateStore } from "./state.ts";
import { hasLiveAuthority, issuerIds, renewalTime, taintedAuthorities, type Validity } from "./validity.ts";

export interface AgentIdentity {
  /** Takes up what an earlier run left, if its SVID and key fit and still hold. @throws SpireError. */
  load(): Promise<void>;
  /** Attests or renews when that is due. @throws SpireError when there is no valid SVID after that. */
  maintain(signal: AbortSignal): Promise<void>;
  /** Undefined before the first attestation and after `forget`. */
  id(): SpiffeId | undefined;
  /** What to show to the server; undefined without an SVID. */
  tls(): TlsIdentity | undefined;
  /** What to verify the server with; undefined = nothing is known yet, and that is accepted. */
  trusted(): TrustBundle | undefined;
  /** The server's newest bundle. Durable when this resolves, unless the disk refuses: then soon after it takes it. */
  learnBundle(bundle: TrustBundle): Promise<void>;
  /** Lets go of the SVID, on disk too. */
  forget(): Promise<void>;
  /** Whether there is an SVID that holds. */
  isValid(): boolean;
  /** Whether it can attest anew. */
  canAttest(): boolean;
}

export interface AgentIdentityDeps {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Logger;
  readonly keys: LocalKeyManager;
  readonly state: StateStore;
  readonly proofs: NodeProofs;
  readonly bootstrap: AgentBootstrap;
  /** A connection to the server that verifies it by `trusted()`; anonymous without an identity. */
  readonly dial: (identity: TlsIdentity | undefined) => Channel;
  /** Called after each change of the SVID. */
  readonly onChange: () => void;
}

interface Held {
  readonly id: SpiffeId;
  readonly chain: readonly Uint8Array[];
  readonly key: LocalKey;
  readonly slot: Slot;
  readonly validity: Validity;
  /** Unix seconds. */
  readonly renewAt: number;
  readonly reattestable: boolean;
  readonly issuers: readonly string[];
}

/** Key IDs as SPIRE's agent uses them: the next key is made beside the one in use. */
const slots = ["agent-svid-A", "agent-svid-B"] as const;
type Slot = (typeof slots)[number];

/** An SVID that ends within this many seconds counts as ended, for clocks that differ a little. */
const skewSeconds = 1;

export function createAgentIdentity(deps: AgentIdentityDeps): AgentIdentity {
  const { clock, log, keys, state, proofs, bootstrap, trustDomain } = deps;
  let held: Held | undefined;
  let known: TrustBundle | undefined;
  /** Whether the disk has what is held. */
  let isSaved = true;

  const isValid = (): boolean =>
    held !== undefined && unixSeconds(clock) < held.validity.notAfter - skewSeconds;

  function trusted(): TrustBundle | undefined {
    if (bootstrap.type !== "bundle" || typeof bootstrap.bundle !== "function") return known;
    const given = bootstrap.bundle();
    return known ? mergeBundles(known, given) : given;
  }

  /** An agent that was away for longer than its authorities lived begins again from its bootstrap bundle. */
  async function prepareTrust(): Promise<void> {
    if (known && (hasLiveAuthority(known, unixSeconds(clock)) || bootstrap.type === "insecure")) return;
    const given = await bootstrapBundle(bootstrap, trustDomain);
    if (!given) log.warn("Insecure bootstrap enabled; skipping server certificate verification");
    known = given ?? known;
  }

  async function newRequest(): Promise<{ slot: Slot; key: LocalKey; csr: Uint8Array }> {
    const slot = held?.slot === slots[0] ? slots[1] : slots[0];
    const key = await keys.generate(slot, "ec-p256");
    return { slot, key, csr: await createCertificateRequest({ key }) };
  }

  /**
   * Puts what is held on disk. A full disk must not cost an SVID that can't be had twice, so a failure is logged and
   * the next `maintain` tries again.
   */
  async function save(): Promise<void> {
    isSaved = false;
    try {
      await state.save({
        svid: held?.chain ?? [],
        bundle: known?.x509Authorities.map(({ der }) => der) ?? [],
        reattestable: held?.reattestable ?? false,
      });
      isSaved = true;
    } catch (error) {
      log.error("Failed to save the agent's state; a restart would not know it. Trying again", { error });
    }
  }

  async function adopt(
    chain: readonly Uint8Array[],
    { slot, key }: { slot: Slot; key: LocalKey },
    reattestable: boolean,
  ): Promise<SpiffeId> {
    const next = hold(chain, key, slot, reattestable);
    if (!next || trustDomainOf(next.id) !== trustDomain) {
      throw new SpireError("INTERNAL", "server sent an agent SVID of another key or trust domain");
    }
    held = next;
    await save();
    deps.onChange();
    return next.id;
  }

  async function attest(signal: AbortSignal): Promise<void> {
    const prover = await proofs.next();
    if (!prover)
      throw new SpireError(
        "FAILED_PRECONDITION",
        "no agent SVID, and nothing left to attest with; start the agent with a new join token",
      );
    log.debug("Starting node attestation");
    const request = await newRequest();
    const channel = deps.dial(undefined);
    try {
      const result = await judged(attestAgent(channel.client(AgentService), prover, request.csr, signal));
      known = (await bundleOver(channel, signal)) ?? known;
      const id = await adopt(result.chain, request, result.reattestable);
      log.info("Node attestation was successful", { spiffe_id: id, reattestable: result.reattestable });
    } finally {
      channel.close();
    }
  }

  /** What has been attested must not be lost because this fails: the next sync asks again. */
  async function bundleOver(channel: Channel, signal: AbortSignal): Promise<TrustBundle | undefined> {
    try {
      const request = { outputMask: undefined };
      return bundleFromMessage(await channel.client(BundleService).getBundle(request, { signal }));
    } catch (error) {
      log.warn("Failed to fetch bundle", { error });
      return undefined;
    }
  }

  /** Notes that the proof is used up once the server has decided on it. */
  async function judged<T>(attestation: Promise<T>): Promise<T> {
    try {
      const result = await attestation;
      proofs.spent();
      return result;
    } catch (error) {
      if (!isPassing(error)) proofs.spent();
      throw error;
    }
  }

  async function renew(current: Held, signal: AbortSignal): Promise<void> {
    const request = await newRequest();
    const identity = { chain: current.chain, privateKey: current.key.privateKey };
    const channel = deps.dial(identity);
    try {
      const chain = await renewAgent(channel.client(AgentService), request.csr, signal);
      const id = await adopt(chain, request, current.reattestable);
      log.info("Successfully rotated agent SVID", { spiffe_id: id });
    } finally {
      channel.close();
    }
  }

  const isDue = (current: Held): boolean => {
    if (unixSeconds(clock) >= current.renewAt) return true;
    const tainted = known ? taintedAuthorities(known) : new Set();
    return current.issuers.some((id) => tainted.has(id));
  };

  async function renewIfDue(current: Held, signal: AbortSignal): Promise<void> {
    if (!isDue(current)) return;
    log.debug("Rotating agent SVID");
    try {
      await (current.reattestable && proofs.available() ? attest(signal) : renew(current, signal));
    } catch (error) {
      if (denialOf(error) || !isValid() || signal.aborted) throw error;
      log.warn("Failed to rotate agent SVID", { error, expires_at: current.validity.notAfter });
    }
  }

  async function load(): Promise<void> {
    const kept = await state.load();
    if (kept.bundle.length > 0) {
      const x509Authorities = kept.bundle.map((der) => ({ der, tainted: false }));
      known = { ...emptyBundle(trustDomain), x509Authorities };
      log.info("Bundle loaded", { trust_domain_id: `spiffe://${trustDomain}` });
    }
    for (const slot of slots) {
      const key = kept.svid.length > 0 ? await keys.get(slot) : undefined;
      held = (key && hold(kept.svid, key, slot, kept.reattestable)) ?? held;
    }
    if (held && (!isValid() || trustDomainOf(held.id) !== trustDomain)) held = undefined;
    if (held) log.info("SVID loaded", { spiffe_id: held.id, trust_domain_id: `spiffe://${trustDomain}` });
    else log.info("SVID is not found. Starting node attestation");
  }

  return {
    load,
    async maintain(signal) {
      if (!isSaved) await save();
      await prepareTrust();
      if (held && isValid()) await renewIfDue(held, signal);
      else await attest(signal);
    },
    id: () => held?.id,
    tls: () => held && { chain: held.chain, privateKey: held.key.privateKey },
    trusted,
    async learnBundle(bundle) {
      if (known && equalBundles(known, bundle)) return;
      known = bundle;
      await save();
    },
    async forget() {
      held = undefined;
      await save();
      deps.onChange();
    },
    isValid,
    canAttest: () => proofs.available(),
  };
}

/** Undefined when the chain is not one of this key. */
function hold(
  chain: readonly Uint8Array[],
  key: LocalKey,
  slot: Slot,
  reattestable: boolean,
): Held | undefined {
  const [der] = chain;
  if (!der) return undefined;
  const leaf = parseCertificate(der);
  if (Buffer.compare(leaf.publicKeyInfo, exportPublicKeyInfo(key.publicKey)) !== 0) return undefined;
  return {
    id: parseSvidId(leaf),
    chain,
    key,
    slot,
    validity: leaf,
    renewAt: renewalTime(leaf),
    reattestable,
    issuers: issuerIds(chain),
  };
}

const passing: ReadonlySet<string> = new Set([
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "RESOURCE_EXHAUSTED",
  "ABORTED",
  "CANCELLED",
]);

/** Whether a failure says nothing about the request itself, so that the same may work later. */
export const isPassing = (error: unknown): boolean => passing.has(SpireError.from(error).code);
