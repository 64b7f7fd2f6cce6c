/** Recorded calls in their JSON form, replayed over a channel with messages built from proto/. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createFileRegistry,
  type DescMessage,
  type DescMethod,
  type FileRegistry,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { installed, run } from "../../scripts/run.ts";
import { SpireError } from "../../src/core/errors.ts";
import type { Channel } from "../../src/rpc/dial.ts";

/** One record of test/golden/errors. */
export interface RecordedCall {
  readonly name: string;
  readonly service: string;
  readonly method: string;
  readonly caller: string;
  readonly streaming?: "bidi";
  readonly request: JsonValue;
  readonly code: string;
  readonly message: string;
  readonly response: JsonValue;
  /** Not recorded: given, each request of a stream but the first waits for a response; else all are sent at once. */
  readonly next?: NextRequest;
}

/** What of a call is compared. */
export interface Outcome {
  readonly code: string;
  readonly message: string;
  /** Of a batch, in order; a code that is left out is 0. */
  readonly statuses: readonly { readonly code: number; readonly message: string }[];
}

export interface Replayed extends Outcome {
  readonly response: JsonValue;
}

/** What a stream sends after a response: the next recorded request, or another one in its place. */
export type NextRequest = (recorded: JsonValue, response: JsonValue) => JsonValue;

export interface CallReplayer {
  replay(
    call: Pick<RecordedCall, "service" | "method" | "request" | "next">,
    channel: Channel,
  ): Promise<Replayed>;
}

/** Reads proto/ once. */
export async function createCallReplayer(): Promise<CallReplayer> {
  const registry = await readProtoFiles();
  return {
    async replay({ service, method, request, next }, channel) {
      const found = registry.getService(service)?.methods.find(({ name }) => name === method);
      try {
        const response = await (found
          ? call(found, request, { channel, registry, next })
          : callUnknown(`/${service}/${method}`, channel));
        return { code: "OK", message: "", statuses: statusesOf(response), response };
      } catch (error) {
        if (!(error instanceof SpireError)) throw error;
        return { code: error.code, message: error.message, statuses: [], response: null };
      }
    },
  };
}

async function readProtoFiles(): Promise<FileRegistry> {
  const work = await mkdtemp(join(tmpdir(), "spire-golden-"));
  try {
    const binary = join(work, "set.binpb");
    await run([installed("buf"), "build", "-o", binary]);
    return createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(binary)));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface Means {
  readonly channel: Channel;
  readonly registry: FileRegistry;
  readonly next: NextRequest | undefined;
}

async function call(
  method: DescMethod,
  request: JsonValue,
  { channel, registry, next }: Means,
): Promise<JsonValue> {
  const codec = (type: DescMessage) => ({
    write: (json: JsonValue) => Buffer.from(toBinary(type, fromJson(type, json ?? {}, { registry }))),
    read: (bytes: Buffer): JsonValue => toJson(type, fromBinary(type, bytes), { registry }),
  });
  const [input, output] = [codec(method.input), codec(method.output)];
  const common = {
    path: `/${method.parent.typeName}/${method.name}`,
    requestSerialize: input.write,
    requestDeserialize: input.read,
    responseSerialize: output.write,
    responseDeserialize: output.read,
  };
  if (method.methodKind === "bidi_streaming") {
    const definition = { call: { ...common, requestStream: true as const, responseStream: true as const } };
    return converse(toList(request), channel.client(definition).call(), next);
  }
  const definition = { call: { ...common, requestStream: false as const, responseStream: false as const } };
  return channel.client(definition).call(request);
}

/** A method that proto/ has not, and so the server has not either: what is sent doesn't matter. */
function callUnknown(path: string, channel: Channel): Promise<JsonValue> {
  const write = () => Buffer.alloc(0);
  const read = (): JsonValue => null;
  const codecs = { requestSerialize: write, requestDeserialize: read };
  const answers = { responseSerialize: write, responseDeserialize: read };
  const definition = {
    call: { path, requestStream: true as const, responseStream: true as const, ...codecs, ...answers },
  };
  return converse([], channel.client(definition).call());
}

/** What a stream sends: a list, nothing for null, else the one message. */
function toList(request: JsonValue): readonly JsonValue[] {
  if (request === null) return [];
  return Array.isArray(request) ? request : [request];
}

interface Side {
  send(request: JsonValue): Promise<void>;
  end(): void;
  receive(): Promise<JsonValue | undefined>;
}

async function converse(
  requests: readonly JsonValue[],
  conversation: Side,
  next?: NextRequest,
): Promise<JsonValue> {
  const responses: JsonValue[] = [];
  for (const [at, request] of requests.entries()) {
    if (at === 0 || !next) await conversation.send(request);
    else {
      const response = (await conversation.receive()) ?? null;
      responses.push(response);
      await conversation.send(next(request, response));
    }
  }
  conversation.end();
  for (;;) {
    const response = await conversation.receive();
    if (response === undefined) return responses;
    responses.push(response);
  }
}

export function statusesOf(response: JsonValue): Outcome["statuses"] {
  const results = isObject(response) ? response["results"] : undefined;
  if (!Array.isArray(results)) return [];
  return results.map((result) => {
    const status = isObject(result) ? result["status"] : undefined;
    const { code = 0, message = "" } = isObject(status) ? status : {};
    return { code: Number(code), message: String(message) };
  });
}

const isObject = (value: JsonValue | undefined): value is { [key: string]: JsonValue } =>
  typeof value === "object" && value !== null && !Array.isArray(value);
