/** The identity that a Workload API gives to this very process: its newest X.509-SVID, with the bundle of its trust domain. */
import { createPrivateKey } from "node:crypto";
import { resolve } from "node:path";
import type { Clock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { parseSpiffeId, type SpiffeId, trustDomainOf } from "../core/spiffe-id.ts";
import { startTask, type Task } from "../core/tasks.ts";
import { splitDer } from "../core/x509/certificate.ts";
import { dialUnix } from "./dial.ts";
import { SpiffeWorkloadAPIService, type X509SVIDResponse } from "./gen/spiffe/workload/workloadapi.ts";
import type { PeerBundle, TlsIdentity } from "./tls.ts";

export interface WorkloadSvid extends TlsIdentity {
  readonly id: SpiffeId;
  readonly bundle: PeerBundle;
}

export interface WorkloadIdentity {
  /**
   * The first SVID of the newest answer, as other clients take it; waits for the first answer.
   * @throws SpireError UNAVAILABLE when none came within 30 s, with the reason.
   */
  svid(): Promise<WorkloadSvid>;
  /** Called after each change, beginning with the first. Returns the function that ends the listening. */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}

export interface WorkloadIdentityOptions {
  /** Path of the Workload API's Unix socket. */
  readonly socketPath: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const waitMs = 30_000;
const backoff = { initialMs: 500, maximumMs: 5_000 };

/** Connects when it is first asked for an SVID, and stays connected until it is closed. */
export function createWorkloadIdentity({
  socketPath,
  clock,
  log,
}: WorkloadIdentityOptions): WorkloadIdentity {
  const channel = dialUnix(resolve(socketPath));
  const client = channel.client(SpiffeWorkloadAPIService);
  const listeners = new Set<() => void>();
  let held: WorkloadSvid | undefined;
  let problem = "no answer yet";
  let following: Task | undefined;
  let isClosed = false;
  const closed = Promise.withResolvers<never>();
  closed.promise.catch(() => {});

  function hold(response: X509SVIDResponse): void {
    held = svidOf(response);
    for (const listener of listeners) listener();
  }

  async function follow(signal: AbortSignal): Promise<number> {
    let isAnswered = false;
    try {
      const metadata = { "workload.spiffe.io": "true" };
      for await (const response of client.fetchX509Svid({}, { metadata, signal })) {
        hold(response);
        isAnswered = true;
      }
    } catch (error) {
      problem = SpireError.from(error).message;
      // An agent that restarts is no failure: it is there again before the next delay has grown.
      if (!isAnswered) throw error;
    }
    return backoff.initialMs;
  }

  return {
    svid() {
      if (isClosed) return closed.promise;
      following ??= startTask({
        name: "following of the Workload API",
        clock,
        log: log.with({ workload_api_socket: socketPath }),
        backoff,
        run: follow,
      });
      if (held) return Promise.resolve(held);
      const arrival = new Promise<WorkloadSvid>((fulfil, reject) => {
        const stopListening = () => listeners.delete(arrived);
        const cancel = clock.after(waitMs, () => {
          stopListening();
          const message = `no X.509-SVID from the Workload API at "${socketPath}": ${problem}`;
          reject(new SpireError("UNAVAILABLE", message));
        });
        const arrived = () => {
          if (!held) return;
          stopListening();
          cancel();
          fulfil(held);
        };
        listeners.add(arrived);
      });
      return Promise.race([arrival, closed.promise]);
    },
    onChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      isClosed = true;
      closed.reject(new SpireError("CANCELLED", "the connection to the Workload API was closed"));
      await following?.stop();
      channel.close();
    },
  };
}

/** @throws SpireError for an answer without an SVID, or with one that is malformed. */
function svidOf({ svids }: X509SVIDResponse): WorkloadSvid {
  const [svid] = svids;
  if (!svid) throw new SpireError("INTERNAL", "the Workload API's answer has no X.509-SVID");
  const id = parseSpiffeId(svid.spiffeId);
  return {
    id,
    chain: splitDer(svid.x509Svid),
    privateKey: privateKeyOf(svid.x509SvidKey),
    bundle: {
      trustDomain: trustDomainOf(id),
      x509Authorities: splitDer(svid.bundle).map((der) => ({ der, tainted: false })),
    },
  };
}

function privateKeyOf(der: Buffer) {
  try {
    return createPrivateKey({ key: der, type: "pkcs8", format: "der" });
  } catch {
    // The cause is dropped: a library may quote its input, and this input is a private key.
    throw new SpireError("INTERNAL", "the Workload API's private key is not PKCS #8");
  }
}
