/** An upstream authority whose certificate and key lie in files: the company's PKI, or a root made for the purpose. */
import { readFile } from "node:fs/promises";
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { type TrustDomain, trustDomainId } from "../../core/spiffe-id.ts";
import { type CaKey, importCaKey } from "../../core/x509/ca-key.ts";
import { type Certificate, parseCertificate, parsePemCertificates } from "../../core/x509/certificate.ts";
import { parseCertificateRequest, verifyCertificateRequest } from "../../core/x509/csr.ts";
import { keyUsages } from "../../core/x509/extensions.ts";
import { createIssuerOf, type Issuer, issueRequestedCa } from "../../core/x509/issue.ts";
import { verifiedChains } from "../../core/x509/verify.ts";
import { warnOfExposedKey } from "../../files/exposed-key.ts";
import { reasonOf } from "../../files/failure.ts";
import type { UpstreamAuthority } from "./index.ts";

/** Files in PEM. */
export interface DiskUpstreamOptions {
  /** The CA that signs, then the intermediate certificates that lead to a root. */
  readonly certFilePath: string;
  readonly keyFilePath: string;
  /** Undefined: the CA that signs is the root itself. */
  readonly bundleFilePath?: string;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What signs when no lifetime is asked for; seconds. */
const defaultTtlSeconds = 3_600;

interface Loaded {
  readonly issuer: Issuer;
  /** What follows a CA that was signed; DER. */
  readonly chain: readonly Uint8Array[];
  readonly roots: readonly Uint8Array[];
}

/**
 * Reads the files now, and again at each `mint`; when they don't hold by then, those read last go on.
 * @throws SpireError INVALID_ARGUMENT that names the file, when they can't be read, don't belong together, or don't
 *   lead from a CA to the bundle.
 */
export async function createDiskUpstream(options: DiskUpstreamOptions): Promise<UpstreamAuthority> {
  const { trustDomain, clock, log } = options;
  let loaded = await load(options);
  warnOfExposedKey(options.keyFilePath, log);

  async function reload(): Promise<void> {
    try {
      loaded = await load(options);
    } catch (error) {
      log.warn("Upstream authority's files don't hold; those read last are used", { error });
    }
  }

  return {
    async mint(csr, preferredTtlSeconds) {
      await reload();
      const { issuer, chain, roots } = loaded;
      const request = requestFor(csr, trustDomain);
      const ttlSeconds = preferredTtlSeconds > 0 ? preferredTtlSeconds : defaultTtlSeconds;
      const { der } = await issueRequestedCa(issuer, { ...request, ttlSeconds }, unixSeconds(clock));
      return { chain: [der, ...chain], roots: roots.map((root) => ({ der: root, tainted: false })) };
    },
    async close() {},
  };
}

/** @throws SpireError INVALID_ARGUMENT unless the CSR is for the trust domain and signed with its own key. */
function requestFor(csr: Uint8Array, trustDomain: TrustDomain) {
  const request = parseCertificateRequest(csr);
  verifyCertificateRequest(request);
  const [uri, ...more] = request.uris;
  if (more.length > 0 || uri !== trustDomainId(trustDomain)) {
    throw invalidArgument(`CSR must have "${trustDomainId(trustDomain)}" as its only URI SAN`);
  }
  return request;
}

async function load(options: DiskUpstreamOptions): Promise<Loaded> {
  const { certFilePath, keyFilePath, bundleFilePath, clock } = options;
  const key = await readPart("upstream CA key", keyFilePath, importCaKey);
  const [ca, ...intermediates] = await readPart("upstream CA cert", certFilePath, parseCertificates);
  if (!ca) throw invalidArgument(`unable to load upstream CA cert: "${certFilePath}" has no certificate`);
  if (bundleFilePath === undefined && intermediates.length > 0) {
    throw invalidArgument(
      `with no bundle_file_path configured only self-signed CAs are supported, but "${certFilePath}" has a chain; ` +
        "set bundle_file_path to the file with its root",
    );
  }
  const roots =
    bundleFilePath === undefined
      ? [ca]
      : await readPart("upstream CA bundle", bundleFilePath, parseCertificates);
  check(ca, key, { intermediates, roots, nowSeconds: unixSeconds(clock) }, options);
  return {
    issuer: createIssuerOf(key, ca.der, []),
    chain: bundleFilePath === undefined ? [] : [ca.der, ...intermediates.map(({ der }) => der)],
    roots: roots.map(({ der }) => der),
  };
}

const parseCertificates = (pem: string): readonly Certificate[] =>
  parsePemCertificates(pem).map(parseCertificate);

async function readPart<T>(what: string, path: string, parse: (text: string) => T): Promise<T> {
  try {
    return parse(await readFile(path, "utf8"));
  } catch (error) {
    const reason = error instanceof SpireError ? error.message : reasonOf(error);
    throw invalidArgument(`unable to load ${what}: "${path}": ${reason}`, error);
  }
}

/** @throws SpireError INVALID_ARGUMENT unless the CA can sign what everybody with the bundle accepts. */
function check(
  ca: Certificate,
  { publicKeyInfo }: CaKey,
  chain: Parameters<typeof verifiedChains>[1],
  { certFilePath, keyFilePath, bundleFilePath }: DiskUpstreamOptions,
): void {
  const refuse = (reason: string) => invalidArgument(`unable to load upstream CA: ${reason}`);
  if (Buffer.compare(ca.publicKeyInfo, publicKeyInfo) !== 0) {
    throw refuse(
      `certificate and private key do not match: "${keyFilePath}" is not the key of the first certificate in "${certFilePath}"`,
    );
  }
  if (!ca.isCa || (ca.keyUsage !== undefined && !(ca.keyUsage & keyUsages.keyCertSign))) {
    throw refuse(
      `the first certificate in "${certFilePath}" is not a CA; it must be allowed to sign certificates`,
    );
  }
  if (ca.pathLength === 0) {
    throw refuse(
      `the first certificate in "${certFilePath}" has a path length of 0, so there can be no CA below it`,
    );
  }
  try {
    verifiedChains(ca, chain);
  } catch (error) {
    const trusted = bundleFilePath === undefined ? "" : ` of "${bundleFilePath}"`;
    throw refuse(
      `certificate cannot be validated with the provided bundle${trusted} or is not self-signed: ` +
        `"${certFilePath}": ${SpireError.from(error).message}`,
    );
  }
}
