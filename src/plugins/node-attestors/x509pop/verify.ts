/** The server's half of x509pop: a node is who holds the key of a certificate that a trusted authority signed. */
import { readFile } from "node:fs/promises";
import { type AgentPathTemplate, parseAgentPathTemplate } from "../../../core/agent-path-template.ts";
import { type Clock, unixSeconds } from "../../../core/clock.ts";
import { invalidArgument, permissionDenied, SpireError } from "../../../core/errors.ts";
import { canonicalIp } from "../../../core/ip-address.ts";
import type { Logger } from "../../../core/log.ts";
import { parseSpiffeId, pathOf, type SpiffeId, trustDomainOf } from "../../../core/spiffe-id.ts";
import {
  type Certificate,
  parseCertificate,
  publicKeyOf,
  readPemCertificates,
} from "../../../core/x509/certificate.ts";
import { bitStringBytes, DerReader, readOnly, tags, unsignedBytes } from "../../../core/x509/der.ts";
import { keyUsages } from "../../../core/x509/extensions.ts";
import { verifiedChains } from "../../../core/x509/verify.ts";
import { reasonOf } from "../../../files/failure.ts";
import type { NodeIdentity, NodeVerifier, VerifierContext } from "../index.ts";
import { sanSelectorsOf, selectorValues, templateData, templateFields } from "./certificate-data.ts";
import { decodeAnswer, decodePayload, encodeChallenge, flawOf, keyKindOf, newChallenge } from "./messages.ts";

const name = "x509pop";

export interface X509popVerifierOptions {
  readonly trust: /** Files in PEM. */
    | { readonly mode: "external_pki"; readonly caBundlePaths: readonly string[] }
    /** SVIDs of the own trust domain whose path begins with `prefix`, which ends in a slash. */
    | { readonly mode: "spiffe"; readonly prefix: string };
  /** Undefined = `defaultAgentPathTemplates` of the mode. */
  readonly agentPathTemplate?: string;
  readonly maxIntermediates: number;
  /** Bits. */
  readonly maxRsaKeySize: number;
  /** Whether the address of the agent's connection has to be one of its certificate. */
  readonly verifyClientIp: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

const defaultAgentPathTemplates = {
  external_pki: "/{{ .PluginName }}/{{ .Fingerprint }}",
  spiffe: "/{{ .PluginName }}/{{ .SVIDPathTrimmed }}",
} as const;

/**
 * Reads the files with authorities.
 * @throws SpireError FAILED_PRECONDITION for one that can't be read, INVALID_ARGUMENT for a template that holds a mistake.
 */
export async function openX509popVerifier(options: X509popVerifierOptions): Promise<NodeVerifier> {
  const { trust } = options;
  const template = parseAgentPathTemplate(options.agentPathTemplate ?? defaultAgentPathTemplates[trust.mode]);
  template.requireFields(templateFields);
  const roots = trust.mode === "external_pki" ? await readRoots(trust.caBundlePaths) : undefined;

  return {
    name,
    async verify(payload, ask, context) {
      const claim = parseClaim(payload, options);
      const chains = await named(() => verifyClaim(claim, roots ?? ownRoots(context), options));
      await named(() => checkClientIp(claim.leaf, options, context));
      const proof = await named(() => startProof(claim.leaf));
      // What goes wrong in the conversation itself is no word of this attestor.
      const answer = await ask(proof.challenge);
      return named(() => {
        proof.check(answer);
        return identify(claim.leaf, chains, { template, options, context });
      });
    },
  };

  function parseClaim(payload: Uint8Array, limits: X509popVerifierOptions): Claim {
    try {
      return readClaim(payload, limits);
    } catch (error) {
      throw ownError(error);
    }
  }
}

async function readRoots(paths: readonly string[]): Promise<readonly Certificate[]> {
  const roots: Certificate[] = [];
  for (const path of paths) {
    try {
      roots.push(...readPemCertificates(await readFile(path, "utf8")).map(parseCertificate));
    } catch (cause) {
      const message = `x509pop: unable to load trust bundle "${path}": ${reasonOf(cause)}`;
      throw new SpireError("FAILED_PRECONDITION", message, { cause });
    }
  }
  return roots;
}

/** SPIRE's words for an error of a plugin. */
const ownError = (error: unknown): SpireError => {
  const { code, message } = SpireError.from(error);
  return new SpireError(code, `nodeattestor(${name}): ${message}`, { cause: error });
};

async function named<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw ownError(error);
  }
}

/** What a node says it is. */
interface Claim {
  readonly leaf: Certificate;
  readonly intermediates: readonly Certificate[];
}

/** Sizes are judged before anything is computed with what a stranger has sent. */
function readClaim(payload: Uint8Array, limits: X509popVerifierOptions): Claim {
  const [leafDer, ...others] = decodePayload(payload);
  if (!leafDer) throw invalidArgument("no certificate to attest");
  if (others.length > limits.maxIntermediates) throw invalidArgument("too many intermediate certificates");
  const leaf = parseOne(leafDer, "leaf certificate", limits);
  const intermediates = others.map((der, at) => parseOne(der, `intermediate certificate ${at}`, limits));
  return { leaf, intermediates };
}

function parseOne(der: Uint8Array, what: string, { maxRsaKeySize }: X509popVerifierOptions): Certificate {
  let certificate: Certificate;
  let rsaBits: number;
  try {
    certificate = parseCertificate(der);
    rsaBits = rsaKeyBits(certificate.publicKeyInfo);
    if (rsaBits <= maxRsaKeySize) publicKeyOf(certificate);
  } catch (error) {
    throw invalidArgument(`unable to parse ${what}: ${SpireError.from(error).message}`, error);
  }
  if (rsaBits > maxRsaKeySize) throw invalidArgument(`${what} key size too large`);
  return certificate;
}

const rsaEncryption = Buffer.from("06092a864886f70d010101", "hex");

/** Of another key 0. (RFC 8017, A.1.1.) */
function rsaKeyBits(publicKeyInfo: Uint8Array): number {
  const reader = new DerReader(readOnly(publicKeyInfo).content);
  const oid = reader.enter().read(tags.oid).raw;
  if (Buffer.compare(oid, rsaEncryption) !== 0) return 0;
  const key = readOnly(bitStringBytes(reader.read(tags.bitString)));
  const modulus = unsignedBytes(new DerReader(key.content).read(tags.integer));
  const [first = 0] = modulus;
  return modulus.length * 8 - (Math.clz32(first) - 24);
}

const ownRoots = ({ ownBundle }: VerifierContext): readonly Certificate[] =>
  ownBundle().x509Authorities.map(({ der }) => parseCertificate(der));

type Chains = readonly (readonly Certificate[])[];

function verifyClaim(
  { leaf, intermediates }: Claim,
  roots: readonly Certificate[],
  { clock }: X509popVerifierOptions,
): Chains {
  const refuse = (reason: string, cause?: unknown) =>
    new SpireError("PERMISSION_DENIED", `certificate verification failed: ${reason}`, { cause });
  const isTrustedItself = roots.some(({ der }) => Buffer.compare(der, leaf.der) === 0);
  // Whoever runs an authority could name a node at will; its own certificate is none of a node.
  if (leaf.isCa && !isTrustedItself) throw refuse("leaf certificate is a CA's");
  try {
    return verifiedChains(leaf, { intermediates, roots, nowSeconds: unixSeconds(clock) });
  } catch (error) {
    throw refuse(SpireError.from(error).message, error);
  }
}

function checkClientIp(
  leaf: Certificate,
  { verifyClientIp }: X509popVerifierOptions,
  { peerAddress }: VerifierContext,
): void {
  if (!verifyClientIp) return;
  const [, bracketed, plain] = /^(?:\[(.*)\]|([^:]*)):\d+$/.exec(peerAddress) ?? [];
  const text = bracketed ?? plain;
  if (!text) throw new SpireError("INTERNAL", "client IP not available for verification");
  const clientIp = canonicalIp(text);
  if (clientIp === undefined) throw new SpireError("INTERNAL", `invalid client IP "${text}"`);
  if (leaf.ipAddresses.some((bytes) => formatIp(bytes) === clientIp)) return;
  throw permissionDenied(`client IP ${clientIp} does not match any certificate IP SAN`);
}

function formatIp(bytes: Uint8Array): string | undefined {
  const groups = Buffer.from(bytes).toString("hex").match(/.{4}/g) ?? [];
  return canonicalIp(bytes.length === 4 ? bytes.join(".") : groups.join(":"));
}

interface Proof {
  readonly challenge: Uint8Array;
  /** @throws SpireError when the answer doesn't prove possession of the key. */
  check(answer: Uint8Array): void;
}

function startProof(leaf: Certificate): Proof {
  const refuse = (reason: string) => new SpireError("INTERNAL", `unable to generate challenge: ${reason}`);
  if (!((leaf.keyUsage ?? 0) & keyUsages.digitalSignature)) {
    throw refuse("certificate not intended for digital signature use");
  }
  const key = publicKeyOf(leaf);
  const kind = keyKindOf(key);
  if (!kind) throw refuse(`unsupported public key type ${key.asymmetricKeyType}`);
  const challenge = newChallenge(kind);
  return {
    challenge: encodeChallenge(challenge),
    check(answer) {
      const flaw = flawOf(key, challenge, decodeAnswer(answer, kind));
      if (flaw !== undefined) throw permissionDenied(`challenge response verification failed: ${flaw}`);
    },
  };
}

interface Naming {
  readonly template: AgentPathTemplate;
  readonly options: X509popVerifierOptions;
  readonly context: VerifierContext;
}

async function identify(
  leaf: Certificate,
  chains: Chains,
  { template, options: { trust, log }, context: { trustDomain } }: Naming,
): Promise<NodeIdentity> {
  const svidPath = trust.mode === "spiffe" ? trimmedPath(leaf, trust.prefix, trustDomain) : "";
  const sanSelectors = sanSelectorsOf(leaf, trustDomain, (uri) =>
    log.warn("Cannot extract x509pop SAN selectors", { uri }),
  );
  const facts = { pluginName: name, trustDomain, svidPath, sanSelectors };
  return {
    agentId: await template.agentId(trustDomain, templateData(leaf, facts)),
    selectors: selectorValues(leaf, chains, sanSelectors).map((value) => ({ type: name, value })),
    canReattest: true,
  };
}

/** The path of the SVID's ID without the prefix. */
function trimmedPath(leaf: Certificate, prefix: string, trustDomain: string): string {
  const uri = leaf.uris.find((candidate) => candidate.startsWith("spiffe://"));
  if (uri === undefined) throw permissionDenied("valid SVID x509 cert not found");
  let id: SpiffeId;
  try {
    id = parseSpiffeId(uri);
  } catch (cause) {
    throw new SpireError("PERMISSION_DENIED", "valid SVID x509 cert not found", { cause });
  }
  if (trustDomainOf(id) !== trustDomain) throw permissionDenied("x509 cert is of another trust domain");
  const path = pathOf(id);
  if (!path.startsWith(prefix)) throw permissionDenied("x509 cert doesnt match SVID prefix");
  return path.slice(prefix.length);
}
