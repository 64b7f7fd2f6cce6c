/** spire.server.rotation.v1.Rotation: the server's own authorities replaced as one operation. */
import { invalidArgument } from "../../core/errors.ts";
import {
  RotationService,
  type RotationStatus,
  type StartRotationRequest,
} from "../../rpc/gen/spire/server/rotation/v1/rotation.ts";
import { type BoundService, bindService, type Call } from "../../rpc/service.ts";
import type { AuthorityKeeper } from "../authority-keeper.ts";
import { type AuthorityKind, authorityKinds } from "../journal.ts";
import { isUndoable, isWaiting, type RotationRequest } from "../rotation/operation.ts";
import type { RotationRunner, RotationState } from "../rotation/runner.ts";

export interface RotationApiOptions {
  readonly runner: RotationRunner;
  readonly authority: Pick<AuthorityKeeper, "state">;
}

/** Agents that a status names. */
const mostNamed = 100;

export function createRotationApi({ runner, authority }: RotationApiOptions): BoundService {
  /** All that the server has, unless some are named. */
  function kindsFrom(names: readonly string[]): readonly AuthorityKind[] {
    if (names.length === 0) return authorityKinds.filter((kind) => authority.state(kind, "active"));
    const unknown = names.find((name) => !authorityKinds.some((kind) => kind === name));
    if (unknown !== undefined) {
      throw invalidArgument(`unknown kind of authority "${unknown}": use ${authorityKinds.join(", ")}`);
    }
    return authorityKinds.filter((kind) => names.includes(kind));
  }

  const requestFrom = (message: StartRotationRequest): RotationRequest => ({
    kinds: kindsFrom(message.kinds),
    emergency: message.emergency,
    ignoreMinted: message.ignoreMinted,
    ignoreDownstream: message.ignoreDownstream,
  });

  return bindService(RotationService, {
    async startRotation(request, { signal }) {
      await runner.start(requestFrom(request));
      // By then it is known what replaces what, or why it can't.
      for await (const state of runner.watch(signal)) {
        if (state.operation.stage !== "preparing" || state.failure !== "") return toStatusMessage(state);
      }
      return toStatusMessage(runner.state());
    },
    getRotation: async () => toStatusMessage(runner.state()),
    watchRotation: (_, call) => watch(call),
    stopRotation: async () => toStatusMessage(await runner.stop()),
    resumeRotation: async () => toStatusMessage(await runner.resume()),
    undoRotation: async () => toStatusMessage(await runner.undo()),
  });

  async function* watch({ signal }: Call): AsyncGenerator<RotationStatus> {
    for await (const state of runner.watch(signal)) yield toStatusMessage(state);
  }
}

function toStatusMessage({ operation, waiting, failure }: RotationState): RotationStatus {
  const { agents, others } = waiting;
  return {
    id: operation.id,
    stage: operation.stage,
    kinds: [...operation.kinds],
    stopped: operation.stopped,
    problem: operation.problem || failure,
    undoable: isUndoable(operation),
    emergency: operation.emergency,
    ignoreMinted: operation.ignoreMinted,
    ignoreDownstream: operation.ignoreDownstream,
    startedAt: operation.startedAt,
    stageSince: operation.stageSince,
    replacements: operation.replacements.map(({ kind, next, old }) => ({
      kind,
      newAuthorityId: next,
      oldAuthorityIds: [...old],
    })),
    bundleSequence: isWaiting(operation) ? operation.bundleSequence : 0,
    waitingAgentsCount: agents.length,
    waitingAgents: agents.slice(0, mostNamed).map((agent) => ({ ...agent })),
    waitingFor: others.map((other) => ({ ...other })),
  };
}
