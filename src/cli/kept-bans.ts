/** `-keepBans FILE` of `spire server restore`: which agents are to be banned afterwards. */
import { readFileSync } from "node:fs";
import { invalidArgument, SpireError } from "../core/errors.ts";
import {
  isAgentId,
  parseSpiffeId,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from "../core/spiffe-id.ts";

/**
 * Reads agents' SPIFFE IDs: what `agent list -banned true -output json` or `restore -dryRun -output json` printed, or
 * a text with one ID a line.
 * @throws SpireError INVALID_ARGUMENT naming the file, and what in it is no agent of the trust domain.
 */
export function readBans(path: string, trustDomain: TrustDomain): readonly SpiffeId[] {
  const texts = textsOf(path, readText(path));
  const ids = texts.map((text) => {
    try {
      const id = parseSpiffeId(text);
      if (isAgentId(id) && trustDomainOf(id) === trustDomain) return id;
    } catch {
      // Said below.
    }
    throw invalidArgument(`${path}: ${JSON.stringify(text)} is not the ID of an agent of "${trustDomain}"`);
  });
  return [...new Set(ids)];
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw invalidArgument(`-keepBans: ${SpireError.from(error).message}`);
  }
}

function textsOf(path: string, text: string): readonly string[] {
  if (!/^\s*[[{]/.test(text)) {
    return text
      .split("\n")
      .map((line) => line.replace(/#.*/, "").trim())
      .filter((line) => line !== "");
  }
  const value = parseJson(path, text);
  if (Array.isArray(value)) return value.map(String);
  const agents = fieldOf(value, "agents");
  if (Array.isArray(agents)) return agents.filter((agent) => fieldOf(agent, "banned") === true).map(idOf);
  const undone = fieldOf(fieldOf(value, "undone"), "bans");
  if (Array.isArray(undone)) return undone.map(String);
  const forms = '"agent list -banned true -output json" or "restore -dryRun -output json"';
  throw invalidArgument(`${path} is neither what ${forms} prints, nor a list of IDs`);
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalidArgument(`${path} is not complete JSON`);
  }
}

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;

function idOf(agent: unknown): string {
  const id = fieldOf(agent, "id");
  return `spiffe://${String(fieldOf(id, "trust_domain"))}${String(fieldOf(id, "path"))}`;
}
