/** Federation relationships as flags and files (`federation create -data`) hold them. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { parseSpiffeId } from "../core/spiffe-id.ts";
import type { Bundle } from "../rpc/gen/spire/api/types/bundle.ts";
import { FederationRelationship } from "../rpc/gen/spire/api/types/federationrelationship.ts";
import { parseBundleFormat, parseBundleText } from "./bundle-data.ts";
import type { Terminal } from "./command.ts";
import { readTextFile } from "./files.ts";
import { quote } from "./go-text.ts";

/** One relationship as the user gave it; what isn't given is empty. */
export interface RelationshipDraft {
  readonly trustDomain: string;
  readonly bundleEndpointURL: string;
  readonly bundleEndpointProfile: string;
  readonly endpointSPIFFEID: string;
}

/** The checks are those that need no server. @throws SpireError INVALID_ARGUMENT in SPIRE's words. */
export function relationshipMessage(
  draft: RelationshipDraft,
  bundle: Bundle | undefined,
): FederationRelationship {
  if (draft.trustDomain === "") throw invalidArgument("trust domain is required");
  if (draft.bundleEndpointURL === "") throw invalidArgument("bundle endpoint URL is required");
  return FederationRelationship.fromPartial({
    trustDomain: draft.trustDomain,
    bundleEndpointUrl: draft.bundleEndpointURL,
    bundleEndpointProfile: profileOf(draft),
    trustDomainBundle: bundle,
  });
}

type Profile = FederationRelationship["bundleEndpointProfile"];

function profileOf({
  bundleEndpointProfile: profile,
  endpointSPIFFEID: endpointId,
}: RelationshipDraft): Profile {
  if (profile === "https_web") return { $case: "httpsWeb", value: {} };
  if (profile !== "https_spiffe") {
    throw invalidArgument(`unknown bundle endpoint profile type: ${quote(profile)}`);
  }
  if (endpointId === "") {
    throw invalidArgument("endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set");
  }
  try {
    return { $case: "httpsSpiffe", value: { endpointSpiffeId: parseSpiffeId(endpointId) } };
  } catch (error) {
    throw SpireError.from(error).within("cannot parse bundle endpoint SPIFFE ID");
  }
}

/** The bundle in a file; undefined without a path. @throws SpireError. */
export async function readBundleFile(
  trustDomain: string,
  path: string,
  format: string,
  terminal: Terminal,
): Promise<Bundle | undefined> {
  if (path === "") return undefined;
  let text: string;
  try {
    text = await readTextFile(path, terminal);
  } catch (error) {
    throw SpireError.from(error).within("cannot read bundle file");
  }
  return parseBundleText(trustDomain, text, parseBundleFormat(format));
}

/**
 * The relationships of a document `{"federationRelationships":[…]}`. A bundle in it is PEM or SPIFFE's JSON as a
 * text, or the latter as an object.
 * @throws SpireError INVALID_ARGUMENT that says where the document is wrong.
 */
export function parseRelationshipDocument(text: string): FederationRelationship[] {
  const items = asFields(parseJson(text) ?? {}, "the document")["federationrelationships"] ?? [];
  if (!Array.isArray(items)) throw invalidArgument('"federationRelationships" is not a list');
  return items.map((item: unknown, index) => {
    const where = `federationRelationships[${index}]`;
    const fields = asFields(item, where);
    const text = (name: string): string => {
      const value = fields[name.toLowerCase()] ?? "";
      if (typeof value !== "string") throw invalidArgument(`${where}.${name} is not a text`);
      return value;
    };
    const draft = {
      trustDomain: text("trustDomain"),
      bundleEndpointURL: text("bundleEndpointURL"),
      bundleEndpointProfile: text("bundleEndpointProfile"),
      endpointSPIFFEID: text("endpointSPIFFEID"),
    };
    const format = text("trustDomainBundleFormat");
    try {
      return relationshipMessage(draft, bundleIn(fields, draft.trustDomain, format));
    } catch (error) {
      throw SpireError.from(error).within(`could not parse item ${index}`);
    }
  });
}

type Fields = Readonly<Record<string, unknown>>;

function bundleIn(fields: Fields, trustDomain: string, format: string): Bundle | undefined {
  const bundle = fields["trustdomainbundle"] ?? "";
  if (bundle === "") return undefined;
  if (typeof bundle === "string") {
    return parseBundleText(trustDomain, bundle, parseBundleFormat(format === "" ? "pem" : format));
  }
  return parseBundleText(trustDomain, JSON.stringify(bundle), "spiffe");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalidArgument(`failed to parse JSON: ${SpireError.from(cause).message}`, cause);
  }
}

/** Names are matched without regard to case, as Go's JSON does. */
function asFields(value: unknown, where: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, field]) => [name.toLowerCase(), field]));
  }
  throw invalidArgument(`${where} is not an object`);
}
