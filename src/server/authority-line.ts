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

/** An authority in its slot, with what signs in its name. */
export interface HeldAuthority<Signer> extends JournalEntry {
  readonly signer: Signer;
}

/** What signs JWT-SVIDs. */
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
  /** The prepared authority comes into force, and the one in force becomes old. */
  activation(): Move;
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

const keyIdPrefixes: Readonly<Record<AuthorityKind, string>> = { x509: "x509-CA", jwt: "JWT-Signer" };

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
      const key = await keyManager.generate(keyId(slot), traits.keyType);
      const made = await traits.create(key, nowSeconds);
      return moveTo([{ ...made, slot, status: "prepared", issuedAt: nowSeconds }]);
    },
    activation() {
      const prepared = held("prepared");
      if (!prepared) {
        throw new SpireError("FAILED_PRECONDITION", `no ${traits.kind} authority is prepared`);
      }
      const coming: HeldAuthority<Signer> = { ...prepared, status: "active" };
      const active = held("active");
      return moveTo(active ? [{ ...active, status: "old" }, coming] : [coming]);
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
}

/** X.509 authorities, self-signed. Their ID is the subject key identifier in lowercase hex. */
export function createX509Line(options: X509LineOptions): AuthorityLine<Issuer> {
  const { trustDomain, keyManager, keyType, ttlSeconds, subject } = options;
  const traits: LineTraits<Issuer> = {
    kind: "x509",
    keyIdPrefix: keyIdPrefixes.x509,
    keyType,
    async create(key, nowSeconds) {
      const request = { key, trustDomain, ttlSeconds, ...(subject ? { subject } : {}) };
      const { der, notAfter } = await issueSelfSignedCa(request, nowSeconds);
      const signer = createIssuer(key, der, []);
      return {
        authorityId: authorityId(exportPublicKeyInfo(key.publicKey)),
        notAfter,
        der,
        upstreamChain: [],
        signer,
      };
    },
    publish: (bundle, { der }) => ({
      ...bundle,
      x509Authorities: [...bundle.x509Authorities, { der, tainted: false }],
    }),
    isPublished: (bundle, { der }) => bundle.x509Authorities.some((root) => equalBytes(root.der, der)),
    signer: (entry, key) =>
      authorityId(exportPublicKeyInfo(key.publicKey)) === entry.authorityId
        ? createIssuer(key, entry.der, entry.upstreamChain)
        : undefined,
  };
  return createLine(traits, keyManager);
}

export interface JwtLineOptions {
  readonly keyManager: KeyManager;
  readonly keyType: KeyType;
  readonly ttlSeconds: number;
}

/** JWT authorities. Their ID is the key ID (`kid`): 32 random letters and digits. */
export function createJwtLine({
  keyManager,
  keyType,
  ttlSeconds,
}: JwtLineOptions): AuthorityLine<TokenSigner> {
  const traits: LineTraits<TokenSigner> = {
    kind: "jwt",
    keyIdPrefix: keyIdPrefixes.jwt,
    keyType,
    async create(key, nowSeconds) {
      const keyId = randomKeyId();
      const notAfter = nowSeconds + ttlSeconds;
      return {
        authorityId: keyId,
        notAfter,
        der: exportPublicKeyInfo(key.publicKey),
        upstreamChain: [],
        signer: { keyId, key },
      };
    },
    publish: (bundle, entry) => ({
      ...bundle,
      jwtAuthorities: [...bundle.jwtAuthorities, tokenAuthority(entry)],
    }),
    isPublished: (bundle, { authorityId }) =>
      bundle.jwtAuthorities.some(({ keyId }) => keyId === authorityId),
    signer: (entry, key) =>
      equalBytes(exportPublicKeyInfo(key.publicKey), entry.der)
        ? { keyId: entry.authorityId, key }
        : undefined,
  };
  return createLine(traits, keyManager);
}

const tokenAuthority = ({ authorityId, der, notAfter }: JournalEntry): TokenAuthority => ({
  keyId: authorityId,
  publicKey: der,
  expiresAt: notAfter,
  tainted: false,
});

const keyIdAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

const randomKeyId = (): string =>
  Array.from(randomBytes(32), (byte) => keyIdAlphabet.charAt(byte % keyIdAlphabet.length)).join("");

const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
