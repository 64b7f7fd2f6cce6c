/** `spire server x509 mint`: an X.509-SVID for a key made here, without an entry. */
import { join } from "node:path";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { exportPkcs8, generateKey } from "../core/keys.ts";
import { parseSpiffeId } from "../core/spiffe-id.ts";
import { formatPemCertificates } from "../core/x509/certificate.ts";
import { createCertificateRequest } from "../core/x509/csr.ts";
import type { Channel } from "../rpc/dial.ts";
import { BundleService } from "../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import { command, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { privateMode, publicMode, writeTextFile } from "./files.ts";
import { durationFlag, listFlag, stringFlag } from "./flags.ts";
import { quote } from "./go-text.ts";
import { capWarning, wholeSeconds } from "./mint.ts";
import { formatPemKey } from "./pem.ts";

interface Minted {
  /** Leaf first. */
  readonly chain: readonly Uint8Array[];
  /** PKCS #8. */
  readonly privateKey: Uint8Array;
  readonly roots: readonly Uint8Array[];
  /** Unix seconds. */
  readonly expiresAt: number;
}

interface MintOptions {
  readonly spiffeId: string;
  readonly dnsNames: readonly string[];
  readonly ttlSeconds: number;
}

export const x509Mint = command({
  name: "x509 mint",
  summary: "Mints an X.509-SVID",
  example: "x509 mint -spiffeID spiffe://example.org/web -dns web.example.org -ttl 1h -write ./certs",
  flags: {
    ...serverFlags,
    spiffeID: stringFlag("SPIFFE ID of the X.509-SVID"),
    dns: listFlag("DNS name that will be included in the SVID. Can be used more than once"),
    ttl: durationFlag("TTL of the X.509-SVID; the server's default if not set"),
    write: stringFlag("Directory to write svid.pem, key.pem and bundle.pem to instead of standard output"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.spiffeID === "") throw invalidArgument("spiffeID must be specified");
    const ttlSeconds = wholeSeconds(flags.ttl);
    const options = { spiffeId: parseSpiffeId(flags.spiffeID), dnsNames: flags.dns, ttlSeconds };
    return withServer(invocation, async (channel) => {
      const minted = await mint(channel, options);
      terminal.err(capWarning("X509-SVID", minted.expiresAt, ttlSeconds));
      if (flags.write !== "") await writeMinted(minted, flags.write, terminal);
      else terminal.out(flags.output === "json" ? formatMintedJson(minted) : formatMinted(minted));
      return 0;
    });
  },
});

async function mint(channel: Channel, { spiffeId, dnsNames, ttlSeconds }: MintOptions): Promise<Minted> {
  const key = await generateKey("ec-p256");
  const foreign = dnsNames.find((name) => !isAscii(name));
  if (foreign !== undefined)
    throw invalidArgument(
      `unable to generate CSR: x509: ${quote(foreign)} cannot be encoded as an IA5String`,
    );
  const csr = await createCertificateRequest({ key, uri: spiffeId, dnsNames });
  const { svid } = await within("unable to mint SVID", () =>
    channel.client(SVIDService).mintX509Svid({ csr: Buffer.from(csr), ttl: ttlSeconds }),
  );
  const bundle = await within("unable to get bundle", () =>
    channel.client(BundleService).getBundle({ outputMask: undefined }),
  );
  if (!svid || svid.certChain.length === 0)
    throw new SpireError("INTERNAL", "server response missing SVID chain");
  return {
    chain: svid.certChain,
    privateKey: exportPkcs8(key),
    roots: bundle.x509Authorities.map(({ asn1 }) => asn1),
    expiresAt: svid.expiresAt,
  };
}

const isAscii = (text: string): boolean => [...text].every((character) => character < "\u0080");

async function within<T>(context: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}

const formatMinted = ({ chain, privateKey, roots }: Minted): string =>
  `X509-SVID:\n${formatPemCertificates(chain)}\nPrivate key:\n${formatPemKey(privateKey)}\nRoot CAs:\n${formatPemCertificates(roots)}\n`;

/** In SPIRE's order of fields. */
function formatMintedJson({ chain, privateKey, roots }: Minted): string {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");
  const fields = {
    x509_svid: chain.map(base64),
    private_key: base64(privateKey),
    root_cas: roots.map(base64),
  };
  return `${JSON.stringify(fields)}\n`;
}

async function writeMinted(
  { chain, privateKey, roots }: Minted,
  directory: string,
  terminal: Terminal,
): Promise<void> {
  const write = async (what: string, label: string, name: string, text: string, mode: number) => {
    const path = join(directory, name);
    await within(`unable to write ${what}`, () => writeTextFile(path, text, mode));
    terminal.out(`${label} written to ${path}\n`);
  };
  await write("SVID", "X509-SVID", "svid.pem", formatPemCertificates(chain), publicMode);
  await write("key", "Private key", "key.pem", formatPemKey(privateKey), privateMode);
  await write("bundle", "Root CAs", "bundle.pem", formatPemCertificates(roots), publicMode);
}
