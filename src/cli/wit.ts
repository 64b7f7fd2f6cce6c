/** `spire server wit mint`: a WIT-SVID for a key made here, without an entry. */
import { join } from "node:path";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, generateKey, type KeyType, type LocalKey } from "../core/keys.ts";
import { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { WITSVID } from "../rpc/gen/spire/api/types/witsvid.ts";
import { command, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { spiffeIdMessage } from "./entry-data.ts";
import { privateMode, writeTextFile } from "./files.ts";
import { durationFlag, stringFlag } from "./flags.ts";
import { capWarning, wholeSeconds } from "./mint.ts";

export const witMint = command({
  name: "wit mint",
  summary: "Mints a WIT-SVID",
  example: "wit mint -spiffeID spiffe://example.org/web -ttl 10m -write ./wit",
  flags: {
    ...serverFlags,
    spiffeID: stringFlag("SPIFFE ID of the WIT-SVID"),
    keyType: stringFlag("Key type of the WIT-SVID", "ec-p256"),
    signingAlgorithm: stringFlag("Signing algorithm for the workload signing key", "ES256"),
    ttl: durationFlag("TTL of the WIT-SVID; the server's default if not set"),
    write: stringFlag("Directory to write token and key to instead of standard output"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.spiffeID === "") throw invalidArgument("spiffeID must be specified");
    const id = spiffeIdMessage(flags.spiffeID);
    const ttl = wholeSeconds(flags.ttl);
    const keyType = requireKeyType(flags.keyType, flags.signingAlgorithm);
    return withServer(invocation, async (channel) => {
      const key = await generateKey(keyType);
      const publicKey = Buffer.from(exportPublicKeyInfo(key.publicKey));
      const request = { id, publicKey, signingAlgorithm: flags.signingAlgorithm, ttl };
      const { svid } = await within("unable to mint SVID", () =>
        channel.client(SVIDService).mintWitsvid(request),
      );
      if (!svid || svid.token === "") throw new SpireError("INTERNAL", "server response missing token");
      terminal.err(capWarning("WIT-SVID", svid.expiresAt, ttl));
      const minted = { svid, privateKey: privateJwk(key) };
      if (flags.write !== "") await writeMinted(minted, flags.write, terminal);
      else terminal.out(flags.output === "json" ? formatMintedJson(minted) : formatMinted(minted));
      return 0;
    });
  },
});

/** The types of key that an algorithm signs with. */
const keyTypesOf: Readonly<Record<string, readonly KeyType[]>> = {
  ES256: ["ec-p256"],
  ES384: ["ec-p384"],
  ...Object.fromEntries(
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map((name) => [name, ["rsa-2048", "rsa-4096"]]),
  ),
};

/** @throws SpireError INVALID_ARGUMENT with SPIRE's text unless the two go together. */
function requireKeyType(keyType: string, algorithm: string): KeyType {
  const types = Object.hasOwn(keyTypesOf, algorithm) ? keyTypesOf[algorithm] : undefined;
  if (!types) throw invalidArgument(`unsupported signing algorithm: ${algorithm}`);
  const type = types.find((candidate) => candidate === keyType);
  if (type) return type;
  const what = algorithm.startsWith("ES")
    ? `'${algorithm}' signing algorithm`
    : `signing algorithm '${algorithm}'`;
  throw invalidArgument(`unsupported key type '${keyType}' for ${what}`);
}

interface Minted {
  readonly svid: WITSVID;
  /** JWK (RFC 7517). */
  readonly privateKey: string;
}

/** With the fields in SPIRE's order. */
function privateJwk(key: LocalKey): string {
  const { kty, crv, x, y, n, e, d, p, q, dp, dq, qi } = key.privateKey.export({ format: "jwk" });
  return JSON.stringify({ kty, crv, x, y, n, e, d, p, q, dp, dq, qi });
}

const formatMinted = ({ svid, privateKey }: Minted): string => `${svid.token}\n${privateKey}\n`;

/** In SPIRE's order of fields, nothing that is zero, numbers as numbers. */
function formatMintedJson({ svid, privateKey }: Minted): string {
  const { token, id, expiresAt, issuedAt } = svid;
  const message = {
    token,
    id: { trust_domain: id?.trustDomain, path: id?.path },
    expires_at: expiresAt,
    issued_at: issuedAt,
  };
  return `${JSON.stringify({ private_key: privateKey, svid: message })}\n`;
}

async function writeMinted(
  { svid, privateKey }: Minted,
  directory: string,
  terminal: Terminal,
): Promise<void> {
  const write = async (what: string, label: string, text: string) => {
    const path = join(directory, what);
    await within(`unable to write ${what}`, () => writeTextFile(path, text, privateMode));
    terminal.out(`${label} written to ${path}\n`);
  };
  await write("token", "WIT-SVID", svid.token);
  await write("key", "Private key", privateKey);
}

async function within<T>(context: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}
