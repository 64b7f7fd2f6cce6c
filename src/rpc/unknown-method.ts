/** Calls of methods that a server has not: answered as other implementations do, where grpc-js has words of its own. */
import type { Server } from "@grpc/grpc-js";
import { SpireError } from "../core/errors.ts";

/** Lets calls of any method through to the server's interceptor; it is to be called once all are registered. */
export function routeUnknownMethods(server: Server): void {
  const known: unknown = Reflect.get(server, "handlers");
  if (!(known instanceof Map)) {
    throw new SpireError("INTERNAL", "the handlers are not where this version of grpc-js keeps them");
  }
  const unknown = { func: ignore, serialize: passThrough, deserialize: passThrough, type: "unary" };
  const find = (path: string): unknown => known.get(path) ?? { ...unknown, path };
  Reflect.set(server, "handlers", { get: find });
}

const passThrough = (bytes: Buffer): Buffer => bytes;

function ignore(): void {}

/** UNIMPLEMENTED in grpc-go's words. `paths` are those of the methods that there are. */
export function unknownMethod(path: string, paths: readonly string[]): SpireError {
  const end = path.lastIndexOf("/");
  const service = path.slice(1, end);
  const isServed = paths.some((known) => known.startsWith(`/${service}/`));
  const text = isServed
    ? `unknown method ${path.slice(end + 1)} for service ${service}`
    : `unknown service ${service}`;
  return new SpireError("UNIMPLEMENTED", text);
}
