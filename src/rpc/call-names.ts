/** What logs and metrics call a service and a method: SPIRE's short forms. */

export interface CallNames {
  /** Such as `agent.v1.Agent`. */
  readonly service: string;
  /** Such as `AttestAgent`. */
  readonly method: string;
}

const shortNames: Readonly<Record<string, string>> = {
  "grpc.health.v1.Health": "Health",
  "spire.api.server.logger.v1.Logger": "Logger",
  "spire.api.agent.logger.v1.Logger": "Logger",
  SpiffeWorkloadAPI: "WorkloadAPI",
  "envoy.service.secret.v3.SecretDiscoveryService": "SDS.v3",
  "spire.agent.debug.v1.Debug": "Debug",
  "spire.api.agent.delegatedidentity.v1.DelegatedIdentity": "DelegatedIdentity",
};

/** @param path of a method, such as `/spire.api.server.agent.v1.Agent/AttestAgent`. */
export function callNames(path: string): CallNames {
  const [, service = "", method = ""] = path.split("/");
  return { service: shortNames[service] ?? service.replace(/^spire\.api\.server\./, ""), method };
}

/** The words of a method's metrics, such as `agent`, `v1`, `agent`, `attest_agent`. */
export function callWords(path: string): readonly string[] {
  const { service, method } = callNames(path);
  return [...service.split("."), method].map(snakeCase);
}

/** `BatchNewX509SVID` > `batch_new_x509svid`: a capital begins a word where it stands beside a small letter. */
function snakeCase(name: string): string {
  let words = "";
  for (const [index, letter] of [...name].entries()) {
    const isCapital = letter !== letter.toLowerCase();
    const before = name[index - 1] ?? "";
    const after = name[index + 1] ?? "";
    const beginsWord = isCapital && index > 0 && after !== "" && (isSmall(after) || isSmall(before));
    words += beginsWord && !words.endsWith("_") ? `_${letter.toLowerCase()}` : letter.toLowerCase();
  }
  return words;
}

const isSmall = (letter: string): boolean => letter !== letter.toUpperCase();
