/** What becomes of an authority in the bundle when it is distrusted: tainted first, then taken out. */
import { SpireError } from "../core/errors.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import { authorityId, parseCertificate } from "../core/x509/certificate.ts";
import type { AuthorityKind } from "./journal.ts";

/** An authority of a bundle, whatever its kind. */
interface Listed {
  readonly tainted: boolean;
}

interface Texts {
  readonly unknown: string;
  /** Where it is to be tainted; undefined = as elsewhere. */
  readonly unknownToTaint?: string;
  readonly tainted: string;
  readonly untainted: string;
}

const tokenTexts = (key: string): Texts => ({
  unknown: `no ${key} found with provided key ID`,
  tainted: "key is already tainted",
  untainted: "it is not possible to revoke an untainted key",
});

/** Why it can't be, in SPIRE's words. */
const texts: Readonly<Record<AuthorityKind, Texts>> = {
  x509: {
    unknown: "no root CA found with provided subject key ID",
    unknownToTaint: "no ca found with provided subject key ID",
    tainted: "root CA is already tainted",
    untainted: "it is not possible to revoke an untainted root CA",
  },
  jwt: tokenTexts("JWT Key"),
  wit: tokenTexts("WIT Key"),
};

/** The bundle with the authority tainted. @throws SpireError INTERNAL when it is unknown, or tainted already. */
export function taintAuthority(bundle: TrustBundle, kind: AuthorityKind, id: string): TrustBundle {
  const { unknown, unknownToTaint = unknown } = texts[kind];
  if (find(bundle, kind, id, unknownToTaint).tainted) throw new SpireError("INTERNAL", texts[kind].tainted);
  const taint = <T extends Listed>(items: readonly T[], idOf: (item: T) => string): readonly T[] =>
    items.map((item) => (idOf(item) === id ? { ...item, tainted: true } : item));
  return changed(bundle, kind, taint);
}

/** The bundle without the authority. @throws SpireError INTERNAL when it is unknown, or not tainted. */
export function revokeAuthority(bundle: TrustBundle, kind: AuthorityKind, id: string): TrustBundle {
  if (!find(bundle, kind, id, texts[kind].unknown).tainted)
    throw new SpireError("INTERNAL", texts[kind].untainted);
  const revoke = <T extends Listed>(items: readonly T[], idOf: (item: T) => string): readonly T[] =>
    items.filter((item) => idOf(item) !== id);
  return changed(bundle, kind, revoke);
}

/** What is done to authorities of a bundle. */
export type BundleEdit = "taint" | "untaint" | "remove";

/**
 * The bundle with this done to those of the authorities that it has and that are not so yet; the same object when
 * there is nothing to do. Its sequence number is the caller's to raise.
 */
export function editAuthorities(
  bundle: TrustBundle,
  kind: AuthorityKind,
  ids: ReadonlySet<string>,
  edit: BundleEdit,
): TrustBundle {
  let isSame = true;
  const editAll = <T extends Listed>(items: readonly T[], idOf: (item: T) => string): readonly T[] =>
    items.flatMap((item) => {
      const isDue = ids.has(idOf(item)) && (edit === "remove" || item.tainted !== (edit === "taint"));
      if (!isDue) return [item];
      isSame = false;
      return edit === "remove" ? [] : [{ ...item, tainted: edit === "taint" }];
    });
  const edited = changed(bundle, kind, editAll);
  return isSame ? bundle : { ...edited, sequenceNumber: bundle.sequenceNumber };
}

/** IDs of the bundle's authorities of a kind. */
export const authorityIds = (bundle: TrustBundle, kind: AuthorityKind): ReadonlySet<string> =>
  new Set(kind === "x509" ? bundle.x509Authorities.map(x509Id) : bundle[tokenFields[kind]].map(keyId));

/** Those of them that are tainted. */
export function taintedIds(bundle: TrustBundle, kind: AuthorityKind): ReadonlySet<string> {
  const tainted = <T extends Listed>(items: readonly T[]): readonly T[] =>
    items.filter((item) => item.tainted);
  return authorityIds(changed(bundle, kind, tainted), kind);
}

const x509Id = ({ der }: TrustBundle["x509Authorities"][number]): string =>
  authorityId(parseCertificate(der));
const keyId = ({ keyId: id }: TrustBundle["jwtAuthorities"][number]): string => id;

function find(bundle: TrustBundle, kind: AuthorityKind, id: string, unknown: string): Listed {
  const found: Listed | undefined =
    kind === "x509"
      ? bundle.x509Authorities.find((root) => x509Id(root) === id)
      : bundle[tokenFields[kind]].find((key) => keyId(key) === id);
  if (!found) throw new SpireError("INTERNAL", unknown);
  return found;
}

const tokenFields = { jwt: "jwtAuthorities", wit: "witAuthorities" } as const;

type Change = <T extends Listed>(items: readonly T[], idOf: (item: T) => string) => readonly T[];

function changed(bundle: TrustBundle, kind: AuthorityKind, change: Change): TrustBundle {
  const sequenceNumber = bundle.sequenceNumber + 1;
  if (kind === "x509") {
    return { ...bundle, sequenceNumber, x509Authorities: change(bundle.x509Authorities, x509Id) };
  }
  const field = tokenFields[kind];
  return { ...bundle, sequenceNumber, [field]: change(bundle[field], keyId) };
}
