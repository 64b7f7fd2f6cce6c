/** Makes agents of nodes that prove what they are, and renews what they hold. */
import { permissionDenied, SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { isBanned } from "../core/node.ts";
import { sortSelectors } from "../core/selector.ts";
import { isAgentId, pathOf, type SpiffeId, trustDomainOf } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import type { NodeIdentity, NodeVerifier } from "../plugins/node-attestors/index.ts";
import { agentRefused } from "../rpc/access.ts";
import type { Authority, SignedCertificate } from "./authority.ts";
import { openCertificateRequest } from "./csr.ts";
import type { Registry } from "./registry.ts";

export interface AttestationRequest {
  /** Name of the node attestor. */
  readonly type: string;
  readonly payload: Uint8Array;
  /** DER; only its public key and signature count. */
  readonly csr: Uint8Array;
  /** Address of the agent's connection. */
  readonly peerAddress: string;
  /** Told who it is as soon as that is proven, whatever comes of it then. */
  readonly onProven?: (agentId: SpiffeId) => void;
}

export interface AttestedAgent {
  readonly id: SpiffeId;
  readonly svid: SignedCertificate;
  readonly canReattest: boolean;
}

export interface Attestation {
  /**
   * Verifies the proof, records the agent and signs its SVID. The CSR is judged before the proof: a malformed one
   * uses nothing up. `ask` sends a challenge to the agent and resolves to its answer.
   *
   * @throws SpireError INVALID_ARGUMENT for a bad CSR, FAILED_PRECONDITION for an unknown attestor,
   *   PERMISSION_DENIED for a banned agent, and whatever the attestor refuses with.
   */
  attest(
    request: AttestationRequest,
    ask: (challenge: Uint8Array) => Promise<Uint8Array>,
  ): Promise<AttestedAgent>;
  /** @throws SpireError PERMISSION_DENIED (AGENT_MUST_REATTEST) for an agent that can attest again. */
  requireRenewable(id: SpiffeId): Promise<void>;
  /**
   * A new SVID for an agent; the old one holds until the new one is first used.
   *
   * @throws SpireError INVALID_ARGUMENT for a bad CSR, NOT_FOUND.
   */
  renew(id: SpiffeId, csr: Uint8Array): Promise<SignedCertificate>;
}

export interface AttestationOptions {
  readonly authority: Authority;
  readonly registry: Registry;
  readonly verifiers: readonly NodeVerifier[];
  /** Whether each agent gets a selector `spiffe_id:<its ID>`. */
  readonly agentIdAsSelector: boolean;
  readonly log: Logger;
}

const wording = { malformed: "failed to parse CSR", badSignature: "failed to verify CSR signature" };

export function createAttestation(options: AttestationOptions): Attestation {
  const { authority, registry, verifiers, agentIdAsSelector, log } = options;
  const byName = new Map(verifiers.map((verifier) => [verifier.name, verifier]));
  const { trustDomain } = registry;

  return {
    async attest({ type, payload, csr, peerAddress, onProven }, ask) {
      const verifier = byName.get(type);
      if (!verifier) {
        const reason = `could not find node attestor type "${type}"`;
        throw new SpireError("FAILED_PRECONDITION", `error getting node attestor: ${reason}`);
      }
      const { publicKeyInfo } = openCertificateRequest(csr, wording);
      const proven = await verifier.verify(payload, ask, {
        trustDomain,
        peerAddress,
        redeemToken: (token) => registry.redeemJoinToken(token),
        ownBundle: () => registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain),
      });
      onProven?.(proven.agentId);
      return admit(type, proven, publicKeyInfo);
    },
    async requireRenewable(id) {
      const node = await registry.getNode(id);
      if (!node?.canReattest) return;
      throw agentRefused("AGENT_MUST_REATTEST", "agent must reattest instead of renew");
    },
    async renew(id, csr) {
      const { publicKeyInfo } = openCertificateRequest(csr, wording);
      const svid = await authority.signAgentSvid(id, publicKeyInfo);
      await registry.updateNode(id, { newSerialNumber: svid.serialNumber, newExpiresAt: svid.notAfter });
      return svid;
    },
  };

  async function admit(
    type: string,
    { agentId, selectors, canReattest }: NodeIdentity,
    publicKeyInfo: Uint8Array,
  ): Promise<AttestedAgent> {
    if (trustDomainOf(agentId) !== trustDomain || !isAgentId(agentId)) {
      throw new SpireError("INTERNAL", `node attestor "${type}" gave "${agentId}", which is no agent's ID`);
    }
    const [, owner = ""] = /^\/spire\/agent\/([^/]+)\/./.exec(pathOf(agentId)) ?? [];
    if (owner !== type && byName.has(owner)) {
      // Such as by a template that begins with a name of the certificate: who chose that would be any of the other's agents.
      throw permissionDenied(
        `failed to attest: "${agentId}" is an agent ID of the node attestor "${owner}", not of "${type}"`,
      );
    }
    if (owner !== type) {
      log.warn("The node attestor produced an invalid agent ID: outside of the attestor's own namespace", {
        agent_id: agentId,
        node_attestor_type: type,
      });
    }
    const svid = await authority.signAgentSvid(agentId, publicKeyInfo);
    // In one transaction: a ban at the same moment must not be undone.
    await registry.store.transaction(async ({ nodes }) => {
      const known = await nodes.get(agentId);
      if (known && isBanned(known)) throw permissionDenied("failed to attest: agent is banned");
      await nodes.put({
        id: agentId,
        attestationType: type,
        serialNumber: svid.serialNumber,
        expiresAt: svid.notAfter,
        newSerialNumber: "",
        newExpiresAt: 0,
        canReattest,
        agentVersion: known?.agentVersion ?? "",
        selectors: sortSelectors(
          agentIdAsSelector ? [...selectors, { type: "spiffe_id", value: agentId }] : selectors,
        ),
      });
    });
    await registry.catchUp();
    return { id: agentId, svid, canReattest };
  }
}
