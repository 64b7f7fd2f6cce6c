/** Verifies chains of X509-SVIDs against a trust bundle (X509-SVID standard, section 5; RFC 5280, section 6). */
import { SpireError } from "../errors.ts";
import { parseSpiffeId, pathOf, type SpiffeId, trustDomainOf } from "../spiffe-id.ts";
import type { TrustBundle, X509Authority } from "../trust-bundle.ts";
import { verifySignature } from "./algorithms.ts";
import { type Certificate, parseCertificate, publicKeyOf } from "./certificate.ts";
import { keyUsages } from "./extensions.ts";
import { comparisonsOf, findForbiddenName } from "./name-constraints.ts";

export interface VerifiedSvid {
  readonly id: SpiffeId;
  /** The leaf. */
  readonly certificate: Certificate;
}

/** Bounds the work that a hostile chain can cause: possible issuers looked at, names compared, and depth of a path. */
const mostChecks = 100;
const mostComparisons = 250_000;
const longestPath = 10;
const longestChain = 32;

const refuse = (reason: string, cause?: unknown): SpireError =>
  new SpireError("UNAUTHENTICATED", reason, { cause });

/**
 * Verifies a chain of DER certificates, leaf first, intermediates in any order.
 * @throws SpireError UNAUTHENTICATED that says which rule is broken.
 */
export function verifySvidChain(
  chain: readonly Uint8Array[],
  bundle: Pick<TrustBundle, "x509Authorities" | "trustDomain">,
  nowSeconds: number,
): VerifiedSvid {
  const [leaf, ...intermediates] = parseChain(chain);
  if (!leaf) throw refuse("no certificate was presented");
  const id = checkLeaf(leaf);
  if (trustDomainOf(id) !== bundle.trustDomain) {
    throw refuse(`"${id}" does not belong to trust domain "${bundle.trustDomain}"`);
  }
  search(leaf, { intermediates, roots: rootsOf(bundle.x509Authorities), nowSeconds, onlyFirst: true });
  return { id, certificate: leaf };
}

export interface ChainOptions {
  /** In any order. */
  readonly intermediates: readonly Certificate[];
  readonly roots: readonly Certificate[];
  readonly nowSeconds: number;
}

/**
 * Every chain from a leaf to a root, both included; leaf first. A leaf that is among the roots is a chain by itself.
 * What the leaf may be used for, and its names, are the caller's business; those of CAs are checked.
 *
 * @throws SpireError UNAUTHENTICATED when there is no chain, with the rule that is broken.
 */
export function verifiedChains(
  leaf: Certificate,
  { intermediates, roots, nowSeconds }: ChainOptions,
): readonly (readonly Certificate[])[] {
  if (roots.some(({ der }) => sameBytes(der, leaf.der))) {
    checkUsable(leaf, nowSeconds);
    return [[leaf]];
  }
  return search(leaf, { intermediates, roots: bySubject(roots), nowSeconds, onlyFirst: false });
}

/**
 * The SPIFFE ID of a leaf: its only URI name.
 * @throws SpireError UNAUTHENTICATED when there is none, more than one, or one that is no SPIFFE ID.
 */
export function parseSvidId(certificate: Certificate): SpiffeId {
  const [uri, ...others] = certificate.uris;
  if (uri === undefined) throw refuse("certificate contains no URI SAN");
  if (others.length > 0) throw refuse("certificate contains more than one URI SAN");
  try {
    return parseSpiffeId(uri);
  } catch (cause) {
    throw refuse(`certificate contains an invalid SPIFFE ID: ${SpireError.from(cause).message}`, cause);
  }
}

function parseChain(chain: readonly Uint8Array[]): Certificate[] {
  if (chain.length > longestChain) throw refuse(`certificate chain is longer than ${longestChain}`);
  try {
    return chain.map(parseCertificate);
  } catch (cause) {
    throw refuse("certificate chain is malformed", cause);
  }
}

/** Section 5.2. */
function checkLeaf(leaf: Certificate): SpiffeId {
  const id = parseSvidId(leaf);
  if (pathOf(id) === "") throw refuse("leaf certificate has a SPIFFE ID without a path");
  if (leaf.isCa) throw refuse("leaf certificate has the CA flag set");
  const usage = leaf.keyUsage ?? 0;
  if (usage & keyUsages.keyCertSign) throw refuse("leaf certificate has key usage keyCertSign");
  if (usage & keyUsages.cRLSign) throw refuse("leaf certificate has key usage cRLSign");
  return id;
}

type Path = readonly Certificate[];

interface Search {
  readonly intermediates: readonly Certificate[];
  readonly roots: ReadonlyMap<string, readonly Certificate[]>;
  readonly nowSeconds: number;
  /** One path is enough. */
  readonly onlyFirst: boolean;
  checksLeft: number;
  comparisonsLeft: number;
  /** Why the most promising candidate was no issuer; told when no other one is. */
  problem: string | undefined;
}

function search(
  leaf: Certificate,
  terms: Omit<Search, "checksLeft" | "comparisonsLeft" | "problem">,
): readonly Path[] {
  const left = { checksLeft: mostChecks, comparisonsLeft: mostComparisons };
  const state: Search = { ...terms, ...left, problem: undefined };
  checkUsable(leaf, terms.nowSeconds);
  const paths = findPaths(leaf, [leaf], state);
  if (paths.length === 0) throw refuse(state.problem ?? "certificate is signed by an unknown authority");
  return paths;
}

/**
 * `path` leads from the leaf to `certificate`; what it becomes with each root that ends it. Signatures are verified
 * from the root down, so that a stranger's chain costs no work with keys of the stranger's choice.
 */
function findPaths(certificate: Certificate, path: Path, state: Search): readonly Path[] {
  const found: Path[] = [];
  for (const root of issuersOf(certificate, path, state.roots.get(nameKey(certificate.issuerDer)) ?? [])) {
    if (!mayIssue(root, path, state) || !hasSigned(root, certificate, state)) continue;
    found.push([...path, root]);
    if (state.onlyFirst) return found;
  }
  if (path.length >= longestPath) return found;
  for (const candidate of issuersOf(certificate, path, state.intermediates)) {
    if (!mayIssue(candidate, path, state)) continue;
    const above = findPaths(candidate, [...path, candidate], state);
    if (above.length === 0 || !hasSigned(candidate, certificate, state)) continue;
    found.push(...above);
    if (state.onlyFirst) return found;
  }
  return found;
}

/** Those of the right name that aren't on the path already, with the likeliest first. */
const issuersOf = (certificate: Certificate, path: Path, candidates: readonly Certificate[]) =>
  byKeyId(
    certificate,
    candidates.filter(
      (other) =>
        sameBytes(other.subjectDer, certificate.issuerDer) && !path.some((below) => isSameCa(below, other)),
    ),
  );

/** One CA may have several certificates; no two of them make a path longer. */
const isSameCa = (a: Certificate, b: Certificate): boolean =>
  sameBytes(a.subjectDer, b.subjectDer) && sameBytes(a.publicKeyInfo, b.publicKeyInfo);

/** Those whose key identifier is the one asked for come first; it is a hint, the signature decides. */
function byKeyId(certificate: Certificate, candidates: readonly Certificate[]): readonly Certificate[] {
  const wanted = certificate.authorityKeyId;
  if (!wanted || candidates.length < 2) return candidates;
  const matches = ({ subjectKeyId }: Certificate) =>
    subjectKeyId !== undefined && sameBytes(subjectKeyId, wanted);
  return [...candidates.filter(matches), ...candidates.filter((candidate) => !matches(candidate))];
}

/** Whether the certificate may stand above `path`, all but its signature considered. */
function mayIssue(issuer: Certificate, path: Path, state: Search): boolean {
  return holds(state, () => {
    state.checksLeft -= 1;
    if (state.checksLeft < 0) throw refuse("certificate chain needs too many checks");
    checkUsable(issuer, state.nowSeconds);
    checkAuthority(issuer, path, state);
  });
}

function hasSigned(issuer: Certificate, certificate: Certificate, state: Search): boolean {
  return holds(state, () => {
    if (!isSignedBy(certificate, issuer)) throw refuse("certificate has an invalid signature");
  });
}

/** Whether the check passes; the reason of the first one that doesn't is kept. */
function holds(state: Search, check: () => void): boolean {
  try {
    check();
    return true;
  } catch (caught) {
    state.problem ??= SpireError.from(caught).message;
    return false;
  }
}

/** What every certificate of a path must fulfil. */
function checkUsable({ notBefore, notAfter, unhandledCritical }: Certificate, nowSeconds: number): void {
  if (nowSeconds < notBefore) throw refuse(`certificate is not valid before ${isoTime(notBefore)}`);
  if (nowSeconds > notAfter) throw refuse(`certificate has expired at ${isoTime(notAfter)}`);
  if (unhandledCritical.length > 0) {
    throw refuse(`certificate has an unknown critical extension: ${unhandledCritical.join(", ")}`);
  }
}

const isoTime = (seconds: number): string => new Date(seconds * 1000).toISOString().replace(".000", "");

/** RFC 5280, 6.1.3 (b), (c) and 6.1.4 (k) to (n); a missing key usage restricts nothing. */
function checkAuthority(issuer: Certificate, path: Path, state: Search): void {
  if (!issuer.isCa) throw refuse("certificate is signed by one that is no CA");
  if (issuer.keyUsage !== undefined && !(issuer.keyUsage & keyUsages.keyCertSign)) {
    throw refuse("certificate is signed by a CA without key usage keyCertSign");
  }
  // The leaf doesn't count, nor do certificates that a CA issued to itself, for instance to change its key.
  const below = path.slice(1).filter((other) => !sameBytes(other.subjectDer, other.issuerDer)).length;
  if (issuer.pathLength !== undefined && below > issuer.pathLength) {
    throw refuse("certificate chain is longer than a CA's path length allows");
  }
  const { nameConstraints } = issuer;
  if (!nameConstraints) return;
  for (const names of path) {
    state.comparisonsLeft -= comparisonsOf(nameConstraints, names);
    if (state.comparisonsLeft < 0) throw refuse("certificate chain needs too many checks");
    const forbidden = findForbiddenName(nameConstraints, names);
    if (forbidden !== undefined) throw refuse(`a CA's name constraints forbid "${forbidden}"`);
  }
}

const isSignedBy = (certificate: Certificate, issuer: Certificate): boolean =>
  verifySignature(
    certificate.signatureAlgorithm,
    certificate.tbs,
    publicKeyOf(issuer),
    certificate.signature,
  );

const parsedRoots = new WeakMap<readonly X509Authority[], ReadonlyMap<string, readonly Certificate[]>>();

/** A bundle's authorities by subject, parsed once for as long as the bundle lives. */
function rootsOf(authorities: readonly X509Authority[]): ReadonlyMap<string, readonly Certificate[]> {
  const known = parsedRoots.get(authorities);
  if (known) return known;
  const roots = bySubject(authorities.flatMap(parseAuthority));
  parsedRoots.set(authorities, roots);
  return roots;
}

const bySubject = (certificates: readonly Certificate[]): ReadonlyMap<string, readonly Certificate[]> =>
  Map.groupBy(certificates, ({ subjectDer }) => nameKey(subjectDer));

/** One that can't be read can't vouch for anything; it must not keep the others from doing so. */
function parseAuthority({ der }: X509Authority): Certificate[] {
  try {
    return [parseCertificate(der)];
  } catch {
    return [];
  }
}

const nameKey = (nameDer: Uint8Array): string => Buffer.from(nameDer).toString("latin1");

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
