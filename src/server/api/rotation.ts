/** spire.server.rotation.v1.Rotation: the server's own authorities replaced as one operation. */
import type { Clock } from "../../core/clock.ts";
import { invalidArgument } from "../../core/errors.ts";
import type { RecheckCall } from "../../rpc/access.ts";
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
  /** Whether who watches still may. */
  readonly recheck: RecheckCall;
  readonly clock: Clock;
}

/** Agents that a status names. */
const mostNamed = 100;
/** A rotation may wait for days; between two changes of it, rights are looked at so often. */
const recheckMs = 1_000;

export function createRotationApi({ runner, authority, recheck, clock }: RotationApiOptions): BoundService {
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

  async function* watch(call: Call): AsyncGenerator<RotationStatus> {
    const rights = watchRights(call);
    try {
      for await (const state of runner.watch(AbortSignal.any([call.signal, rights.ended]))) {
        await recheck(call);
        yield toStatusMessage(state);
      }
      await recheck(call);
    } finally {
      rights.close();
    }
  }

  /** `ended` is aborted once the caller may no longer watch. */
  function watchRights(call: Call): { readonly ended: AbortSignal; close(): void } {
    const ended = new AbortController();
    let cancel = () => {};
    let isClosed = false;
    const plan = () => {
      if (!isClosed)
        cancel = clock.after(recheckMs, () => void recheck(call).then(plan, () => ended.abort()));
    };
    plan();
    return {
      ended: ended.signal,
      close() {
        isClosed = true;
        cancel();
      },
    };
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
