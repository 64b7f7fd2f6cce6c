/** Whether what lies in a directory after a fault is whole, and whether the program that owns it works on it. */
import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { generateKey } from "../../src/core/keys.ts";
import { makeSpiffeId } from "../../src/core/spiffe-id.ts";
import { type VerifiedSvid, verifySvidChain } from "../../src/core/x509/verify.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Bundle } from "../../src/rpc/gen/spire/api/types/bundle.ts";
import { csrOf, idMessage } from "../server/running.ts";
import { exampleOrg } from "./world.ts";

export const fetchBundle = (channel: Channel): Promise<Bundle> =>
  channel.client(BundleService).getBundle({ outputMask: undefined });

interface Roots {
  readonly x509Authorities: readonly { readonly asn1: Uint8Array }[];
}

/** Verifies a chain (leaf first, DER) by the server's bundle, at `nowMs`. @throws SpireError UNAUTHENTICATED. */
export const verifyBy = (bundle: Roots, chain: readonly Uint8Array[], nowMs = Date.now()): VerifiedSvid =>
  verifySvidChain(
    chain,
    {
      trustDomain: exampleOrg,
      x509Authorities: bundle.x509Authorities.map(({ asn1 }) => ({ der: asn1, tainted: false })),
    },
    Math.floor(nowMs / 1000),
  );

/** Mints both kinds of SVID and verifies them by the bundle. @returns the X.509 chain. */
export async function expectSigning(channel: Channel, nowMs = Date.now()): Promise<readonly Uint8Array[]> {
  const svids = channel.client(SVIDService);
  const id = makeSpiffeId(exampleOrg, "/minted");
  const csr = await csrOf(await generateKey("ec-p256"), id);
  const { svid } = await svids.mintX509Svid({ csr, ttl: 0 });
  const token = await svids.mintJwtsvid({ id: idMessage("/minted"), audience: ["a"], ttl: 0 });
  const bundle = await fetchBundle(channel);
  expect(verifyBy(bundle, svid?.certChain ?? [], nowMs).id).toBe(id);
  const [header = ""] = (token.svid?.token ?? "").split(".");
  const { kid } = JSON.parse(Buffer.from(header, "base64url").toString());
  expect(bundle.jwtAuthorities.map(({ keyId }) => keyId)).toContain(kid);
  return svid?.certChain ?? [];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;

/** Every file in the directory is whole, and nothing unfinished lies beside it. */
export function expectWhole(directory: string): void {
  const names = readdirSync(directory, { recursive: true }).map(String);
  expect(names.filter((name) => name.endsWith(".tmp"))).toEqual([]);
  for (const name of names) {
    const path = join(directory, name);
    if (name.endsWith("keys.json")) readKeys(path);
    if (name.endsWith("agent-data.json")) readCertificates(path);
    if (name.endsWith(".sqlite3")) checkDatabase(path);
  }
}

function readKeys(path: string): void {
  const { keys } = JSON.parse(readFileSync(path, "utf8"));
  expect(isObject(keys)).toBe(true);
  for (const key of Object.values(keys)) {
    createPrivateKey({ key: Buffer.from(String(key), "base64"), format: "der", type: "pkcs8" });
  }
}

function readCertificates(path: string): void {
  const { svid, bundle } = JSON.parse(readFileSync(path, "utf8"));
  for (const block of [...svid, ...bundle]) new X509Certificate(Buffer.from(block, "base64").toString());
}

function checkDatabase(path: string): void {
  // Opened for writing, as a reader alone can't take up what a killed writer left in the log.
  const database = new Database(path, { readwrite: true });
  try {
    expect(database.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    expect(database.query("PRAGMA foreign_key_check").all()).toEqual([]);
  } finally {
    database.close();
  }
}
