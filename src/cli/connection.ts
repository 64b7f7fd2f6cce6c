/** How commands reach a running server or agent: socket flags, the channel, errors in the words of Go's gRPC. */
import { connect as connectSocket } from "node:net";
import { SpireError } from "../core/errors.ts";
import type { Channel } from "../rpc/dial.ts";
import type { Client } from "../rpc/service.ts";
import type { Invocation, Terminal } from "./command.ts";
import { durationFlag, type Flag, type Flags, outputFlag, stringFlag } from "./flags.ts";
import { goCodeName, systemErrorText } from "./go-text.ts";

const serverSocket = {
  path: "/tmp/spire-server/private/api.sock",
  pathVariable: "SPIRE_SERVER_PRIVATE_SOCKET",
  templateVariable: "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE",
};
const agentSocket = {
  path: "/tmp/spire-agent/public/api.sock",
  pathVariable: "SPIRE_AGENT_PUBLIC_SOCKET",
  templateVariable: "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE",
};
type SocketDefaults = typeof serverSocket;

const socketFlags = (defaults: SocketDefaults, whose: string) => ({
  socketPath: stringFlag(`Path to the SPIRE ${whose} API socket`, defaults.path),
  instance: {
    ...stringFlag(
      `Instance name to substitute into the socket path template (env ${defaults.templateVariable})`,
    ),
    flawIn: (instance: string, env: Terminal["env"]) => flawOfTemplate(instance, env, defaults),
  },
});

/** In SPIRE's words. */
function flawOfTemplate(
  instance: string,
  env: Terminal["env"],
  { templateVariable }: SocketDefaults,
): string | undefined {
  const template = env[templateVariable] ?? "";
  if (instance === "" || template.includes("%i")) return undefined;
  return template === ""
    ? `you must define ${templateVariable} to use the instance flag`
    : `failed to find %i in ${templateVariable}`;
}

export const serverSocketFlags = socketFlags(serverSocket, "Server");
export const agentSocketFlags = socketFlags(agentSocket, "Agent");

/** Of all commands that ask a server something. */
export const serverFlags = { ...serverSocketFlags, output: outputFlag };
export const agentFlags = {
  ...agentSocketFlags,
  output: outputFlag,
  timeout: durationFlag("Time to wait for a response", 5_000),
};

type SocketFlags = Flags & { readonly socketPath: Flag<string>; readonly instance: Flag<string> };

/** `-socketPath`, else the template filled with `-instance`, else the environment's path, else the default. */
function socketPath(invocation: Invocation<SocketFlags>, defaults: SocketDefaults): string {
  const { flags, given, terminal } = invocation;
  if (given.has("socketPath")) return flags.socketPath;
  if (flags.instance === "")
    return terminal.env[defaults.pathVariable] || endpointPath(terminal.env, defaults) || flags.socketPath;
  return (terminal.env[defaults.templateVariable] ?? "").replaceAll("%i", flags.instance);
}

/** The path in the variable by which workloads find the Workload API (SPIFFE Workload Endpoint, section 4). */
function endpointPath(env: Terminal["env"], defaults: SocketDefaults): string | undefined {
  const endpoint = defaults === agentSocket ? env["SPIFFE_ENDPOINT_SOCKET"] : undefined;
  if (!endpoint?.startsWith("unix:")) return undefined;
  return decodeURIComponent(new URL(endpoint).pathname);
}

/** Runs `work` on a channel to the server's socket and closes it. */
export const withServer = async <T>(
  invocation: Invocation<SocketFlags>,
  work: (channel: Channel) => Promise<T>,
): Promise<T> => withChannel(socketPath(invocation, serverSocket), work);

/** Runs `work` on a channel to the agent's public socket and closes it. */
export const withAgent = async <T>(
  invocation: Invocation<SocketFlags>,
  work: (channel: Channel) => Promise<T>,
): Promise<T> => withChannel(socketPath(invocation, agentSocket), work);

async function withChannel<T>(path: string, work: (channel: Channel) => Promise<T>): Promise<T> {
  const { dialUnix } = await import("../rpc/dial.ts");
  const channel = dialUnix(path);
  const describe = (error: unknown) => asGoError(error, path);
  try {
    return await work({
      client: (definition) => rewordErrors(channel.client(definition), describe),
      close: () => channel.close(),
    });
  } finally {
    channel.close();
  }
}

/** `rpc error: code = NotFound desc = …`; an unreachable socket gets the reason from the system. */
async function asGoError(error: unknown, path: string): Promise<SpireError> {
  const known = SpireError.from(error);
  const reason = known.code === "UNAVAILABLE" ? await connectFailure(path) : undefined;
  const description = reason
    ? `connection error: desc = "transport: Error while dialing: dial unix ${path}: connect: ${reason}"`
    : known.message;
  return new RpcFailure(known, description);
}

/** A call's failure; the message is grpc-go's, `description` the server's own. */
export class RpcFailure extends SpireError {
  readonly description: string;
  constructor(cause: SpireError, description: string) {
    super(cause.code, `rpc error: code = ${goCodeName(cause.code)} desc = ${description}`, {
      cause,
      details: cause.details,
    });
    this.description = description;
  }
}

/** Why a socket can't be connected to; undefined when it can. */
function connectFailure(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connectSocket({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once("error", (error) => resolve(systemErrorText(error)));
  });
}

type Describe = (error: unknown) => Promise<SpireError>;

function rewordErrors<S>(client: Client<S>, describe: Describe): Client<S> {
  return new Proxy<Client<S> & object>(client, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== "function") return method;
      return (...args: unknown[]) => rewordResult(Reflect.apply(method, target, args), describe);
    },
  });
}

function rewordResult(result: unknown, describe: Describe): unknown {
  if (result instanceof Promise) {
    return result.catch(async (error) => {
      throw await describe(error);
    });
  }
  return isAsyncIterable(result) ? rewordStream(result, describe) : result;
}

const isAsyncIterable = (value: unknown): value is AsyncIterable<unknown> =>
  typeof value === "object" && value !== null && Symbol.asyncIterator in value;

async function* rewordStream(stream: AsyncIterable<unknown>, describe: Describe): AsyncIterable<unknown> {
  try {
    yield* stream;
  } catch (error) {
    throw await describe(error);
  }
}
