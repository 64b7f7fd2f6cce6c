/** A server on a Unix socket of its own for one test, with its clients, its log and its clean-up. */
import { SpireError } from "../core/errors.ts";
import { type Channel, dialUnix } from "./dial.ts";
import { type Listener, listenUnix, type UnixOptions } from "./listen.ts";
import { type BoundService, bindService, type Call, type Client, type Handlers } from "./service.ts";
import { createRecordingLogger, createWorkspace, testDefinition } from "./testing.ts";

type TestClient = Client<typeof testDefinition>;

export interface TestBed {
  /** Of the socket. */
  readonly path: string;
  readonly log: ReturnType<typeof createRecordingLogger>;
  /** Serves the test service; resolves to a client of it. */
  serve(handlers: Handlers<typeof testDefinition>, options?: Partial<UnixOptions>): Promise<TestClient>;
  /** Serves others; closed with the bed at the latest. */
  listen(services: readonly BoundService[], options?: Partial<UnixOptions>): Promise<Listener>;
  /** The listener made first. */
  listener(): Listener;
  dial(): Channel;
  connectClient(): TestClient;
  close(): Promise<void>;
}

export function createTestBed(): TestBed {
  const workspace = createWorkspace();
  const path = workspace.file("api.sock");
  const log = createRecordingLogger();
  const listeners: Listener[] = [];
  const channels: Channel[] = [];
  const bed: TestBed = {
    path,
    log,
    async serve(handlers, options) {
      await bed.listen([bindService(testDefinition, handlers)], options);
      return bed.connectClient();
    },
    async listen(services, options) {
      const listener = await listenUnix({ path, mode: 0o700, services, log, ...options });
      listeners.push(listener);
      return listener;
    },
    listener() {
      const [first] = listeners;
      if (!first) throw new Error("nothing is served yet");
      return first;
    },
    dial() {
      const channel = dialUnix(path);
      channels.push(channel);
      return channel;
    },
    connectClient: () => bed.dial().client(testDefinition),
    async close() {
      for (const channel of channels) channel.close();
      await Promise.all(listeners.map((listener) => listener.close(0)));
      workspace.remove();
    },
  };
  return bed;
}

export const failureOf = (promise: Promise<unknown>): Promise<SpireError> =>
  promise.then(
    () => {
      throw new Error("the call did not fail");
    },
    (error: unknown) => SpireError.from(error),
  );

export async function collect(messages: AsyncIterable<string>): Promise<string[]> {
  const collected: string[] = [];
  for await (const message of messages) collected.push(message);
  return collected;
}

/** Resolves when the call is over. */
export const endOf = ({ signal }: Call): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

export const never = new Promise<never>(() => {});
