/** What an agent trusts before its server has told it: the bootstrap bundle. */
import { readFile } from "node:fs/promises";
import { SpireError } from "../core/errors.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import { parsePemBundle, parseSpiffeBundle, type TrustBundle } from "../core/trust-bundle.ts";

/** How the first connection knows that it talks to the right server. */
export type AgentBootstrap =
  /** Handed over in process; a function is asked each time, and is believed before anything that was kept. */
  | { readonly type: "bundle"; readonly bundle: TrustBundle | (() => TrustBundle) }
  | { readonly type: "file"; readonly path: string; readonly format: "pem" | "spiffe" }
  /** Believes the first server that names itself rightly. */
  | { readonly type: "insecure" };

/** The bundle to verify the server with; undefined = insecure. @throws SpireError FAILED_PRECONDITION. */
export async function bootstrapBundle(
  bootstrap: AgentBootstrap,
  trustDomain: TrustDomain,
): Promise<TrustBundle | undefined> {
  switch (bootstrap.type) {
    case "bundle":
      return typeof bootstrap.bundle === "function" ? bootstrap.bundle() : bootstrap.bundle;
    case "file":
      return readBundle(bootstrap.path, bootstrap.format, trustDomain);
    case "insecure":
      return undefined;
  }
}

async function readBundle(
  path: string,
  format: "pem" | "spiffe",
  trustDomain: TrustDomain,
): Promise<TrustBundle> {
  try {
    const text = await readFile(path, "utf8");
    return format === "pem" ? parsePemBundle(trustDomain, text) : parseSpiffeBundle(trustDomain, text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new SpireError("FAILED_PRECONDITION", `trust bundle "${path}" can't be used: ${reason}`, { cause });
  }
}
