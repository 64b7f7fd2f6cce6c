/** What an agent keeps of itself between runs: agent-data.json, in the shape that SPIRE's agent reads and writes. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { SpireError } from "../core/errors.ts";
import { formatPemCertificates, parsePemCertificates } from "../core/x509/certificate.ts";
import { reasonOf } from "../files/failure.ts";
import { findForeignPart } from "../files/foreign-part.ts";
import { removeUnfinished, replaceFile } from "../files/replace-file.ts";

export interface AgentState {
  /** The agent's SVID, leaf first, DER; empty = none. */
  readonly svid: readonly Uint8Array[];
  /** X.509 authorities of the own trust domain, DER; empty = none. */
  readonly bundle: readonly Uint8Array[];
  readonly reattestable: boolean;
}

export interface StateStore {
  /** @throws SpireError FAILED_PRECONDITION for a file that is damaged, can't be read or may be somebody else's. */
  load(): Promise<AgentState>;
  /** Durable when this resolves. @throws SpireError FAILED_PRECONDITION. */
  save(state: AgentState): Promise<void>;
}

const emptyState: AgentState = { svid: [], bundle: [], reattestable: false };

/** Keeps the state in this process only. */
export function createMemoryStateStore(): StateStore {
  let state = emptyState;
  return {
    load: async () => state,
    async save(next) {
      state = next;
    },
  };
}

/** Keeps the state in `<directory>/agent-data.json`, 0600, replaced as a whole. */
export function createFileStateStore(directory: string): StateStore {
  const path = join(directory, "agent-data.json");
  let writing: Promise<void> = Promise.resolve();
  return {
    async load() {
      refuseForeign(directory);
      removeUnfinished(path);
      const text = await readOptional(path);
      return text === undefined ? emptyState : parseState(path, text);
    },
    save(state) {
      const write = async () => {
        try {
          await mkdir(directory, { recursive: true, mode: 0o700 });
          await replaceFile(path, formatState(state));
        } catch (cause) {
          throw unusable(path, "can't be written", cause);
        }
      };
      const written = writing.then(write);
      writing = written.catch(() => {});
      return written;
    },
  };
}

/**
 * SPIRE's name for "no bootstrap is needed, a bundle is known" (`bootstrap_use`), and Go's zero time, which it
 * writes when no attestation is under way.
 */
const bootstrapDone = 2;
const goZeroTime = "0001-01-01T00:00:00Z";

/** Go's JSON of `[][]byte`: base64 of a PEM block per certificate. */
function formatState(state: AgentState): string {
  const blocks = (ders: readonly Uint8Array[]) =>
    ders.map((der) => Buffer.from(formatPemCertificates([der])).toString("base64"));
  return JSON.stringify({
    svid: blocks(state.svid),
    bundle: blocks(state.bundle),
    reattestable: state.reattestable,
    bootstrap_use: state.bundle.length > 0 ? bootstrapDone : 0,
    bootstrap_start_time: goZeroTime,
    connection_attempts: 0,
  });
}

function parseState(path: string, text: string): AgentState {
  try {
    const content: unknown = JSON.parse(text);
    if (!isObject(content)) throw new Error("not an object");
    return {
      svid: parseBlocks(content["svid"]),
      bundle: parseBlocks(content["bundle"]),
      reattestable: content["reattestable"] === true,
    };
  } catch (cause) {
    throw unusable(path, "is damaged; restore it, or remove it to attest anew", cause);
  }
}

/** Who made the directory could have the agent trust another server. */
function refuseForeign(directory: string): void {
  const foreign = findForeignPart(directory);
  if (!foreign) return;
  throw new SpireError(
    "FAILED_PRECONDITION",
    `data directory "${foreign.path}" belongs to ${foreign.owner} and lies where anybody may have made it`,
  );
}

/** Absent and null mean none, as in Go. */
function parseBlocks(value: unknown): Uint8Array[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error("not a list");
  return value.flatMap((block: unknown) => {
    if (typeof block !== "string") throw new Error("not a text");
    return parsePemCertificates(Buffer.from(block, "base64").toString("utf8"));
  });
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw unusable(path, "can't be read", cause);
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function unusable(path: string, what: string, cause: unknown): SpireError {
  return new SpireError("FAILED_PRECONDITION", `agent data file "${path}" ${what}: ${reasonOf(cause)}`, {
    cause,
  });
}
