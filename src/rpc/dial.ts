/** Channels to a server: over a Unix socket, or over TLS to a server that is known by its SPIFFE ID. */
import type { Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import {
  CallCredentials,
  ChannelCredentials,
  type ChannelOptions,
  Client as GrpcClient,
} from "@grpc/grpc-js";
import { type Clock, unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { parseSvidId, verifySvidChain } from "../core/x509/verify.ts";
import { createClient } from "./client.ts";
import type { Client } from "./service.ts";
import { minimumTlsVersion, type PeerBundle, peerChain, pemOf, type TlsIdentity } from "./tls.ts";

export interface Channel {
  client<S>(definition: S): Client<S>;
  /** Ends the connections; calls under way fail. */
  close(): void;
}

export interface TlsTarget {
  /** `host:port`; a name is resolved anew for each connection. */
  readonly address: string;
  /** Asked at each new connection. Undefined leaves the chain unverified: the leaf must still name `serverId`. */
  bundle(): PeerBundle | undefined;
  readonly serverId: SpiffeId;
  /** Shown to the server; without one the caller is anonymous. */
  readonly identity?: TlsIdentity;
  readonly clock: Clock;
}

const maxMessageBytes = 64 * 1024 * 1024;
const handshakeMs = 20_000;

const commonOptions: ChannelOptions = {
  "grpc.enable_channelz": 0,
  "grpc.max_receive_message_length": maxMessageBytes,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 5_000,
  // Channels differ in identity and bundle, so none takes over another's connection.
  "grpc.use_local_subchannel_pool": 1,
};

/** A channel to a server's Unix socket. Connects with the first call. */
export function dialUnix(path: string): Channel {
  const grpc = new GrpcClient(`unix:${path}`, ChannelCredentials.createInsecure(), {
    ...commonOptions,
    "grpc.default_authority": "localhost",
  });
  return channelOf(grpc, (error) => tidy(error, `unix:${path}`));
}

/**
 * A channel over TLS. The server's chain is verified to the bundle and its ID must be exactly `serverId`; host
 * names in its certificate mean nothing. When it doesn't hold, calls fail with UNAVAILABLE and the reason, and
 * the error of the verification as `cause`.
 */
export function dialTls(target: TlsTarget): Channel {
  let refusal: SpireError | undefined;
  const credentials = new SvidChannelCredentials(target, (error) => {
    refusal = error;
  });
  const grpc = new GrpcClient(`dns:///${target.address}`, credentials, {
    ...commonOptions,
    "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
    "grpc.service_config_disable_resolution": 1,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
  });
  // The refusal may be of an earlier attempt; grpc-js's account tells which reason is the newest.
  return channelOf(grpc, (error) =>
    error.code === "UNAVAILABLE" && refusal && error.message.includes(refusal.message)
      ? new SpireError("UNAVAILABLE", `could not connect to ${target.address}: ${refusal.message}`, {
          cause: refusal,
        })
      : tidy(error, target.address),
  );
}

/** Takes the reason out of grpc-js's account of its attempts, which is left behind: it repeats the reason. */
function tidy(error: SpireError, address: string): SpireError {
  const [, reason] =
    /^(?:\w+: )?(?:No connection established\. Last error: )+(.*)\. Resolution note: .*$/s.exec(
      error.message,
    ) ?? [];
  if (error.code !== "UNAVAILABLE" || reason === undefined) return error;
  const text = reason.replace(/^Error: /, "").replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, "");
  return new SpireError("UNAVAILABLE", `could not connect to ${address}: ${text}`);
}

function channelOf(grpc: GrpcClient, explain: (error: SpireError) => SpireError): Channel {
  return {
    client: (definition) => createClient(definition, grpc, explain),
    close: () => grpc.close(),
  };
}

/** Called after each handshake: with the reason when the server was refused, with nothing when it holds. */
type Verdict = (refusal: SpireError | undefined) => void;

/** Does the handshake itself: grpc-js's own credentials verify host names and always send one. */
class SvidChannelCredentials extends ChannelCredentials {
  readonly #target: TlsTarget;
  readonly #verdict: Verdict;

  constructor(target: TlsTarget, verdict: Verdict) {
    super();
    this.#target = target;
    this.#verdict = verdict;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(_target: unknown, _options: unknown, callCredentials?: CallCredentials) {
    return {
      connect: async (socket: Socket) => ({
        socket: await handshake(socket, this.#target, this.#verdict),
        secure: true,
      }),
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy() {},
    };
  }
}

function handshake(socket: Socket, target: TlsTarget, verdict: Verdict): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secured = connectTls({
      socket,
      ALPNProtocols: ["h2"],
      minVersion: minimumTlsVersion,
      // The verdict is ours: see verifyServer.
      rejectUnauthorized: false,
      ...(target.identity && pemOf(target.identity)),
    });
    const fail = (caught: unknown) => {
      cancelTimer();
      const error = SpireError.from(caught);
      verdict(error);
      secured.destroy();
      reject(error);
    };
    const cancelTimer = target.clock.after(handshakeMs, () =>
      fail(new SpireError("DEADLINE_EXCEEDED", "the TLS handshake did not end in time")),
    );
    secured.once("error", fail);
    secured.once("secureConnect", () => {
      try {
        verifyServer(secured, target);
      } catch (error) {
        return fail(error);
      }
      cancelTimer();
      secured.off("error", fail);
      verdict(undefined);
      resolve(secured);
    });
  });
}

/** @throws SpireError UNAUTHENTICATED with the reason. */
function verifyServer(socket: TLSSocket, { bundle: bundleOf, serverId, clock }: TlsTarget): void {
  const chain = peerChain(socket);
  const [leaf] = chain;
  if (!leaf) throw new SpireError("UNAUTHENTICATED", "the server showed no certificate");
  const bundle = bundleOf();
  const id = bundle
    ? verifySvidChain(chain, bundle, unixSeconds(clock)).id
    : parseSvidId(parseCertificate(leaf));
  if (id !== serverId) {
    throw new SpireError("UNAUTHENTICATED", `the server is "${id}", expected "${serverId}"`);
  }
}
