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
  readonly tainted: string;
  readonly untainted: string;
}

/** Why it can't be, in SPIRE's words. */
const texts: Readonly<Record<AuthorityKind, Texts>> = {
  x509: {
    unknown: "no root CA found with provided subject key ID",
    tainted: "root CA is already tainted",
    untainted: "it is not possible to revoke an untainted root CA",
  },
  jwt: {
    unknown: "no JWT Key found with provided key ID",
    tainted: "key is already tainted",
    untainted: "it is not possible to revoke an untainted key",
  },
};

/** The bundle with the authority tainted. @throws SpireError INTERNAL when it is unknown, or tainted already. */
export function taintAuthority(bundle: TrustBundle, kind: AuthorityKind, id: string): TrustBundle {
  if (find(bundle, kind, id).tainted) throw new SpireError("INTERNAL", texts[kind].tainted);
  const taint = <T extends Listed>(items: readonly T[], idOf: (item: T) => string): readonly T[] =>
    items.map((item) => (idOf(item) === id ? { ...item, tainted: true } : item));
  return changed(bundle, kind, taint);
}

/** The bundle without the authority. @throws SpireError INTERNAL when it is unknown, or not tainted. */
export function revokeAuthority(bundle: TrustBundle, kind: AuthorityKind, id: string): TrustBundle {
  if (!find(bundle, kind, id).tainted) throw new SpireError("INTERNAL", texts[kind].untainted);
  const revoke = <T extends Listed>(items: readonly T[], idOf: (item: T) => string): readonly T[] =>
    items.filter((item) => idOf(item) !== id);
  return changed(bundle, kind, revoke);
}

const x509Id = ({ der }: TrustBundle["x509Authorities"][number]): string =>
  authorityId(parseCertificate(der));
const keyId = ({ keyId: id }: TrustBundle["jwtAuthorities"][number]): string => id;

function find(bundle: TrustBundle, kind: AuthorityKind, id: string): Listed {
  const found: Listed | undefined =
    kind === "x509"
      ? bundle.x509Authorities.find((root) => x509Id(root) === id)
      : bundle.jwtAuthorities.find((key) => keyId(key) === id);
  if (!found) throw new SpireError("INTERNAL", texts[kind].unknown);
  return found;
}

type Change = <T extends Listed>(items: readonly T[], idOf: (item: T) => string) => readonly T[];

function changed(bundle: TrustBundle, kind: AuthorityKind, change: Change): TrustBundle {
  const sequenceNumber = bundle.sequenceNumber + 1;
  return kind === "x509"
    ? { ...bundle, sequenceNumber, x509Authorities: change(bundle.x509Authorities, x509Id) }
    : { ...bundle, sequenceNumber, jwtAuthorities: change(bundle.jwtAuthorities, keyId) };
}
