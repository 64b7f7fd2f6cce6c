/** One kind of authority: its two key slots, how an authority of it is made, found again and published. */
import { randomBytes } from "node:crypto";
import { SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, type KeyType, type SigningKey } from "../core/keys.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import type { TokenAuthority, TrustBundle } from "../core/trust-bundle.ts";
import { authorityId } from "../core/x509/certificate.ts";
import { type CaSubjectParts, createIssuer, type Issuer, issueSelfSignedCa } from "../core/x509/issue.ts";
import type { KeyManager, ManagedKey } from "../plugins/key-managers/index.ts";
import type { AuthorityKind, AuthorityStatus, JournalEntry, Slot } from "./journal.ts";
import type { Upstream } from "./upstream.ts";
import { leadsTo } from "./upstream-bundle.ts";

/** An authority in its slot, with what signs in its name. */
export interface HeldAuthority<Signer> extends JournalEntry {
  readonly signer: Signer;
}

/** What signs JWT-SVIDs or WIT-SVIDs. */
export interface TokenSigner {
  readonly keyId: string;
  readonly key: SigningKey;
}

/** A change of slots that is yet to be recorded. */
export interface Move {
  readonly kind: AuthorityKind;
  /** What the changed slots will hold. */
  readonly entries: readonly JournalEntry[];
  /** Makes it so in memory. */
  apply(): void;
}

export interface AuthorityLine<Signer> {
  readonly kind: AuthorityKind;
  held(status: AuthorityStatus): HeldAuthority<Signer> | undefined;
  /** Makes a key and an authority, status prepared, for the slot that is not in use. */
  make(nowSeconds: number): Promise<Move>;
  /**
   * The prepared authority, or again the old one, comes into force, and the one in force becomes old.
   * @throws SpireError FAILED_PRECONDITION when there is none.
   */
  activation(from?: "prepared" | "old"): Move;
  /** Forgets a prepared authority. */
  discard(): void;
  publish(bundle: TrustBundle, entry: JournalEntry): TrustBundle;
  /** Takes up the authorities of a journal whose key is at hand and which the bundle still has. */
  restore(entries: readonly JournalEntry[], bundle: TrustBundle): Promise<void>;
}

/** What differs between the kinds. */
interface LineTraits<Signer> {
  readonly kind: AuthorityKind;
  /** Key IDs are this, a dash and the slot. */
  readonly keyIdPrefix: string;
  readonly keyType: KeyType;
  create(
    key: ManagedKey,
    nowSeconds: number,
  ): Promise<Omit<HeldAuthority<Signer>, "slot" | "status" | "issuedAt">>;
  publish(bundle: TrustBundle, entry: JournalEntry): TrustBundle;
  isPublished(bundle: TrustBundle, entry: JournalEntry): boolean;
  /** Undefined when the key is not the entry's. */
  signer(entry: JournalEntry, key: ManagedKey): Signer | undefined;
}

const keyIdPrefixes: Readonly<Record<AuthorityKind, string>> = {
  x509: "x509-CA",
  jwt: "JWT-Signer",
  wit: "WIT-Signer",
};

const slots: readonly Slot[] = ["A", "B"];

/** The key manager's keys of a kind. */
export async function keysOf(keyManager: KeyManager, kind: AuthorityKind): Promise<readonly ManagedKey[]> {
  const prefix = `${keyIdPrefixes[kind]}-`;
  return (await keyManager.list()).filter(({ id }) => id.startsWith(prefix));
}

function createLine<Signer>(traits: LineTraits<Signer>, keyManager: KeyManager): AuthorityLine<Signer> {
  const inSlot = new Map<Slot, HeldAuthority<Signer>>();
  const held = (status: AuthorityStatus) => [...inSlot.values()].find((held) => held.status === status);
  const freeSlot = (): Slot => (held("active")?.slot === "A" ? "B" : "A");
  const keyId = (slot: Slot) => `${traits.keyIdPrefix}-${slot}`;
  const moveTo = (entries: readonly HeldAuthority<Signer>[]): Move => ({
    kind: traits.kind,
    entries: entries.map(({ signer: _, ...entry }) => entry),
    apply() {
      for (const entry of entries) inSlot.set(entry.slot, entry);
    },
  });

  return {
    kind: traits.kind,
    held,
    async make(nowSeconds) {
      const slot = freeSlot();
      // Its key is about to be replaced, so what was there can't be brought into force any more.
      inSlot.delete(slot);
      const key = await keyManager.generate(keyId(slot), traits.keyType);
      const made = await traits.create(key, nowSeconds);
      return moveTo([{ ...made, slot, status: "prepared", issuedAt: nowSeconds }]);
    },
    activation(from = "prepared") {
      const next = held(from);
      if (!next) {
        throw new SpireError("FAILED_PRECONDITION", `no ${traits.kind} authority is ${from}`);
      }
      const coming: HeldAuthority<Signer> = { ...next, status: "active" };
      const active = held("active");
      return moveTo(active ? [{ ...active, status: "old" }, coming] : [coming]);
    },
    discard() {
      const prepared = held("prepared");
      if (prepared) inSlot.delete(prepared.slot);
    },
    publish: traits.publish,
    async restore(entries, bundle) {
      for (const slot of slots) {
        const key = await keyManager.get(keyId(slot));
        if (!key) continue;
        for (const entry of entries.filter((entry) => entry.slot === slot)) {
          const signer = traits.isPublished(bundle, entry) ? traits.signer(entry, key) : undefined;
          if (signer !== undefined) inSlot.set(slot, { ...entry, signer });
        }
      }
    },
  };
}

export interface X509LineOptions {
  readonly trustDomain: TrustDomain;
  readonly keyManager: KeyManager;
  readonly keyType: KeyType;
  readonly ttlSeconds: number;
  readonly subject?: CaSubjectParts;
  /** Undefined: they are self-signed. */
  readonly upstream?: Upstream;
}

/**
 * X.509 authorities, self-signed or signed upstream. Their ID is the subject key identifier in lowercase hex.
 * Those that the server has from the other way of configuring it stay in use until their time comes.
 */
export function createX509Line(options: X509LineOptions): AuthorityLine<Issuer> {
  const { trustDomain, keyManager, keyType, ttlSeconds, subject, upstream } = options;
  const traits: LineTraits<Issuer> = {
    kind: "x509",
    keyIdPrefix: keyIdPrefixes.x509,
    keyType,
    async create(key, nowSeconds) {
      const request = { key, trustDomain, ttlSeconds, ...(subject ? { subject } : {}) };
      const upstreamChain = upstream ? await upstream.mintCa(key, ttlSeconds) : [];
      const [der = (await issueSelfSignedCa(request, nowSeconds)).der] = upstreamChain;
      const signer = createIssuer(key, der, upstreamChain);
      return {
        authorityId: authorityId(exportPublicKeyInfo(key.publicKey)),
        notAfter: signer.notAfter,
        der,
        upstreamChain,
        signer,
      };
    },
    publish: (bundle, { der, upstreamChain }) =>
      upstreamChain.length > 0
        ? bundle
        : { ...bundle, x509Authorities: [...bundle.x509Authorities, { der, tainted: false }] },
    isPublished: (bundle, entry) => leadsTo(entry, bundle.x509Authorities, entry.issuedAt),
    signer: (entry, key) =>
      authorityId(exportPublicKeyInfo(key.publicKey)) === entry.authorityId
        ? createIssuer(key, entry.der, entry.upstreamChain)
        : undefined,
  };
  return createLine(traits, keyManager);
}

export interface TokenLineOptions {
  /** What the tokens are. */
  readonly kind: "jwt" | "wit";
  readonly keyManager: KeyManager;
  readonly keyType: KeyType;
  readonly ttlSeconds: number;
  /** Makes a key known elsewhere, before it is in this server's bundle; undefined: nobody else has to know. */
  readonly announce?: (authority: TokenAuthority) => Promise<void>;
}

/** JWT or WIT authorities. Their ID is the key ID (`kid`): 32 random letters and digits. */
export function createTokenLine({
  kind,
  keyManager,
  keyType,
  ttlSeconds,
  announce,
}: TokenLineOptions): AuthorityLine<TokenSigner> {
  const field = kind === "jwt" ? "jwtAuthorities" : "witAuthorities";
  const isPublished = (bundle: TrustBundle, { authorityId }: JournalEntry) =>
    bundle[field].some(({ keyId }) => keyId === authorityId);
  const traits: LineTraits<TokenSigner> = {
    kind,
    keyIdPrefix: keyIdPrefixes[kind],
    keyType,
    async create(key, nowSeconds) {
      const keyId = randomKeyId();
      const notAfter = nowSeconds + ttlSeconds;
      const der = exportPublicKeyInfo(key.publicKey);
      await announce?.(tokenAuthority({ authorityId: keyId, notAfter, der }));
      return { authorityId: keyId, notAfter, der, upstreamChain: [], signer: { keyId, key } };
    },
    publish: (bundle, entry) =>
      isPublished(bundle, entry) ? bundle : { ...bundle, [field]: [...bundle[field], tokenAuthority(entry)] },
    isPublished,
    signer: (entry, key) =>
      equalBytes(exportPublicKeyInfo(key.publicKey), entry.der)
        ? { keyId: entry.authorityId, key }
        : undefined,
  };
  return createLine(traits, keyManager);
}

type TokenFacts = Pick<JournalEntry, "authorityId" | "der" | "notAfter">;

const tokenAuthority = ({ authorityId, der, notAfter }: TokenFacts): TokenAuthority => ({
  keyId: authorityId,
  publicKey: der,
  expiresAt: notAfter,
  tainted: false,
});

const keyIdAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

const randomKeyId = (): string =>
  Array.from(randomBytes(32), (byte) => keyIdAlphabet.charAt(byte % keyIdAlphabet.length)).join("");

const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
