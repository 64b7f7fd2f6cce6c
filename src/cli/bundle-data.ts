/** Trust bundles as files hold them, PEM or SPIFFE's JSON, for the messages that carry them. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { parsePemBundle, parseSpiffeBundle, type TokenAuthority } from "../core/trust-bundle.ts";
import { Bundle, type JWTKey } from "../rpc/gen/spire/api/types/bundle.ts";
import { quote } from "./go-text.ts";

export type BundleFormat = "pem" | "spiffe";

/** In any case; PEM when empty. @throws SpireError INVALID_ARGUMENT. */
export function parseBundleFormat(text: string): BundleFormat {
  const format = text.toLowerCase();
  if (format === "") return "pem";
  if (format === "pem" || format === "spiffe") return format;
  throw invalidArgument(`invalid format: ${quote(text)}`);
}

/** Which trust domain it is goes to the server as it was typed; the parsers only need some name. */
const unnamed = parseTrustDomain("bundle");

/** @throws SpireError INVALID_ARGUMENT. */
export function parseBundleText(trustDomain: string, text: string, format: BundleFormat): Bundle {
  const bundle =
    format === "pem"
      ? within("unable to parse bundle data", () => parsePemBundle(unnamed, text))
      : within("unable to parse to spiffe bundle", () => parseSpiffeBundle(unnamed, text));
  return Bundle.fromPartial({
    trustDomain,
    x509Authorities: bundle.x509Authorities.map(({ der, tainted }) => ({ asn1: Buffer.from(der), tainted })),
    jwtAuthorities: bundle.jwtAuthorities.map(toKeyMessage),
    witAuthorities: bundle.witAuthorities.map(toKeyMessage),
    refreshHint: bundle.refreshHint,
    sequenceNumber: bundle.sequenceNumber,
  });
}

const toKeyMessage = (key: TokenAuthority): JWTKey => ({ ...key, publicKey: Buffer.from(key.publicKey) });

function within<T>(context: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}
