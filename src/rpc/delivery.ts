/** Whether an answer has reached its client: not what was handed to the socket, but what the other side has read. */
import type { ServerHttp2Stream } from "node:http2";

/** Told once: whether the client has the whole answer. */
type Tell = (delivered: boolean) => void;

/**
 * Calls back when the fate of an answer is known whose end was just sent. A stream that was reset, or whose
 * connection ended, did not deliver. One that ended in order did once the client acknowledges a PING that was sent
 * after it, since frames of a connection are read in order (RFC 9113, section 6.7).
 */
export type DeliveryWatch = (stream: ServerHttp2Stream, tell: Tell) => void;

interface Pings {
  /** Wait for the PING that is on its way. */
  sent: readonly Tell[];
  /** Came after it was sent, so they need the next one. */
  next: Tell[];
}

/** At most one PING is on its way on a connection, however many answers wait for one. */
export function createDeliveryWatch(): DeliveryWatch {
  const sessions = new WeakMap<object, Pings>();

  function ping(session: NonNullable<ServerHttp2Stream["session"]>, pings: Pings): void {
    pings.sent = pings.next;
    pings.next = [];
    const settle = (delivered: boolean) => {
      const { sent } = pings;
      pings.sent = [];
      for (const tell of sent) tell(delivered);
      if (pings.next.length > 0) ping(session, pings);
    };
    try {
      if (session.destroyed || !session.ping((error) => settle(error === null || error === undefined))) {
        settle(false);
      }
    } catch {
      // A session that is ending refuses to send.
      settle(false);
    }
  }

  return (stream, tell) => {
    const { session } = stream;
    const ended = () => {
      if (!session || stream.rstCode !== 0) return tell(false);
      const pings = sessions.get(session) ?? { sent: [], next: [] };
      sessions.set(session, pings);
      pings.next.push(tell);
      if (pings.sent.length === 0) ping(session, pings);
    };
    if (stream.destroyed) ended();
    else stream.once("close", ended);
  };
}
