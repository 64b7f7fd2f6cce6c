/** Prints what a server answered: for people by the command's own printer, or as SPIRE's JSON. */
import type { MethodDefinition } from "../rpc/service.ts";
import type { Terminal } from "./command.ts";
import type { OutputFormat } from "./flags.ts";

/** An answer together with the method that gave it, which knows its message type. */
export interface Reply {
  readonly method: Pick<MethodDefinition<never, unknown>, "path" | "responseSerialize">;
  readonly message: unknown;
}

/** Pairs a method with an answer of its type. */
export const reply = <Res>(
  method: { readonly path: string; readonly responseSerialize: (message: Res) => Buffer },
  message: Res,
): Reply => ({
  method: { path: method.path, responseSerialize: () => method.responseSerialize(message) },
  message,
});

interface Printable {
  readonly output: OutputFormat;
  readonly terminal: Terminal;
  /** One reply is printed as an object, several as an array. */
  readonly replies: readonly Reply[];
  /** May resolve to an exit code; anything else is 0. */
  readonly pretty: () => unknown;
}

/** @returns the exit code. In JSON, failed items are data and the code stays 0. */
export async function print({ output, terminal, replies, pretty }: Printable): Promise<number> {
  if (output === "pretty") {
    const code = await pretty();
    return typeof code === "number" ? code : 0;
  }
  const { replyToJson } = await import("./json.ts");
  const values = replies.map(replyToJson);
  terminal.out(`${formatJson(values.length === 1 ? values[0] : values)}\n`);
  return 0;
}

/** One line with sorted keys and Go's escapes, nulls left out. */
export function formatJson(value: unknown): string {
  return JSON.stringify(sorted(value)).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, field]) => field !== null)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, field]) => [key, sorted(field)]),
  );
}

/** `1 entry`, `2 entries`. */
export const counted = (count: number, one: string, many: string): string =>
  `${count} ${count === 1 ? one : many}`;
