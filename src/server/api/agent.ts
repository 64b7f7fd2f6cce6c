/** spire.api.server.agent.v1.Agent: agents, their attestation and renewal, join tokens. */
import { invalidArgument, notFound, SpireError } from "../../core/errors.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import {
  AgentService,
  type AttestAgentRequest,
  type AttestAgentResponse,
} from "../../rpc/gen/spire/api/server/agent/v1/agent.ts";
import { type BoundService, bindService, type Call } from "../../rpc/service.ts";
import type { Attestation } from "../attest.ts";
import type { Registry } from "../registry.ts";
import { callerId } from "./caller.ts";
import { toAgentMessage, toAttestationParams, toNodeFilter } from "./convert-agent.ts";
import { listing, toPageRequest } from "./convert-filter.ts";
import { agentIdFrom, workloadIdFrom } from "./convert-id.ts";
import { toBuffer, toX509SvidMessage } from "./convert-svid.ts";

/** Bytes of an agent's version that are kept; a longer one is refused. */
const longestVersion = 255;

const listFailure = "failed to list agents:";

export interface AgentApiOptions {
  readonly registry: Registry;
  readonly attestation: Attestation;
}

export function createAgentApi({ registry, attestation }: AgentApiOptions): BoundService {
  const { trustDomain } = registry;

  return bindService(AgentService, {
    async countAgents({ filter }) {
      return { count: await registry.countNodes(toNodeFilter(filter, "failed to count agents:")) };
    },

    async listAgents(request) {
      const filter = toNodeFilter(request.filter, listFailure);
      const page = await listing(listFailure, registry.listNodes(filter, toPageRequest(request)));
      return {
        agents: page.items.map((node) => toAgentMessage(node, request.outputMask)),
        nextPageToken: page.nextToken,
      };
    },

    async getAgent({ id, outputMask }) {
      const node = await registry.getNode(agentIdFrom(id, trustDomain));
      if (!node) throw notFound("agent not found");
      return toAgentMessage(node, outputMask);
    },

    async deleteAgent({ id }) {
      await registry.deleteAgent(agentIdFrom(id, trustDomain));
      return {};
    },

    async banAgent({ id }) {
      await registry.banAgent(agentIdFrom(id, trustDomain));
      return {};
    },

    attestAgent: (requests, call) => attest(requests, call),

    async renewAgent({ params }, call) {
      const id = callerId(call);
      await attestation.requireRenewable(id);
      if (!params) throw invalidArgument("params cannot be nil");
      if (params.csr.length === 0) throw invalidArgument("missing CSR");
      return { svid: toX509SvidMessage(id, await attestation.renew(id, params.csr)) };
    },

    async createJoinToken({ ttl, token, agentId }) {
      if (ttl < 1) throw invalidArgument("ttl is required, you must provide one");
      const alias = agentId && workloadIdFrom(agentId, trustDomain, "invalid agent ID");
      const made = await registry.createJoinToken({
        token,
        ttlSeconds: ttl,
        ...(alias ? { agentId: alias } : {}),
      });
      return { value: made.token, expiresAt: made.expiresAt };
    },

    async postStatus({ agentVersion }, call) {
      if (Buffer.byteLength(agentVersion) > longestVersion) {
        throw invalidArgument(`agent version is too long (max ${longestVersion} characters)`);
      }
      await noteVersion(callerId(call), agentVersion);
      return {};
    },
  });

  async function noteVersion(id: SpiffeId, agentVersion: string): Promise<void> {
    const node = await registry.getNode(id);
    if (agentVersion !== "" && node?.agentVersion !== agentVersion) {
      await registry.updateNode(id, { agentVersion });
    }
  }

  /** Turns the attestor's questions into messages of the stream, and the next request into each answer. */
  async function* attest(
    requests: AsyncIterable<AttestAgentRequest>,
    call: Call,
  ): AsyncGenerator<AttestAgentResponse> {
    const incoming = requests[Symbol.asyncIterator]();
    const params = toAttestationParams(
      await receive(incoming, invalidArgument("failed to receive request from stream: EOF")),
    );
    const questions: Uint8Array[] = [];
    let wake = Promise.withResolvers<undefined>();
    const attested = attestation.attest(
      {
        ...params,
        peerAddress: call.caller.address,
        onProven: (agentId) => call.note({ agent_id: agentId }),
      },
      async (challenge) => {
        questions.push(challenge);
        wake.resolve(undefined);
        const ended = new SpireError("INTERNAL", "failed to receive challenge from agent: EOF");
        const { step } = await receive(incoming, ended);
        return step?.$case === "challengeResponse" ? step.value : new Uint8Array();
      },
    );
    // A caller that goes away ends this generator between two questions; nobody awaits the outcome then.
    attested.catch(() => {});

    for (;;) {
      const agent = await Promise.race([attested, wake.promise]);
      wake = Promise.withResolvers<undefined>();
      for (const challenge of questions.splice(0)) {
        yield { step: { $case: "challenge", value: toBuffer(challenge) } };
      }
      if (!agent) continue;
      const svid = toX509SvidMessage(agent.id, agent.svid);
      yield { step: { $case: "result", value: { svid, reattestable: agent.canReattest } } };
      return;
    }
  }
}

/** @throws SpireError `ended` when the agent has ended its side. */
async function receive(
  incoming: AsyncIterator<AttestAgentRequest>,
  ended: SpireError,
): Promise<AttestAgentRequest> {
  const next = await incoming.next();
  if (next.done) throw ended;
  return next.value;
}
