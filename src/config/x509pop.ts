/** Options of the node attestor x509pop, on the server and on the agent: what is wrong with them, and what they say. */
import { readFileSync } from "node:fs";
import { parseAgentPathTemplate } from "../core/agent-path-template.ts";
import { SpireError } from "../core/errors.ts";
import { quote, systemErrorText } from "../core/go-text.ts";
import { readPemCertificates } from "../core/x509/certificate.ts";

type Data = Readonly<Record<string, unknown>>;

const textIn = (data: Data, option: string): string => String(data[option] ?? "");

/** What the server's half is told. */
export interface X509popServerConfig {
  readonly type: "x509pop";
  readonly trust:
    | { readonly mode: "external_pki"; readonly caBundlePaths: readonly string[] }
    /** `prefix` ends in a slash. */
    | { readonly mode: "spiffe"; readonly prefix: string };
  /** Undefined = the mode's own. */
  readonly agentPathTemplate?: string;
  readonly maxIntermediates: number;
  /** Bits. */
  readonly maxRsaKeySize: number;
  readonly verifyClientIp: boolean;
}

/** What is wrong, in SPIRE's words. The files with authorities are read, too. */
export function checkX509popServer(data: Data): readonly string[] {
  const mode = textIn(data, "mode") || "external_pki";
  if (mode !== "external_pki" && mode !== "spiffe") return ["mode can only be either spiffe or external_pki"];
  return [
    ...(mode === "spiffe" ? checkNoBundles(data) : checkBundles(data)),
    ...checkAgentPathTemplate(data),
    ...["max_intermediates", "max_rsa_key_size"].flatMap((option) =>
      data[option] !== undefined && Number(data[option]) <= 0 ? [`${option} must be greater than 0`] : [],
    ),
  ];
}

const bundlePathsOf = (data: Data): readonly string[] => {
  const { ca_bundle_paths: several } = data;
  const path = textIn(data, "ca_bundle_path");
  if (path !== "") return [path];
  return Array.isArray(several) ? several.map(String) : [];
};

function checkNoBundles(data: Data): readonly string[] {
  if (bundlePathsOf(data).length === 0) return [];
  return ["you can not use ca_bundle_path or ca_bundle_paths in spiffe mode"];
}

function checkBundles(data: Data): readonly string[] {
  const { ca_bundle_paths: several } = data;
  const isBoth = textIn(data, "ca_bundle_path") !== "" && Array.isArray(several) && several.length > 0;
  const both = "only one of ca_bundle_path or ca_bundle_paths can be configured, not both";
  const paths = bundlePathsOf(data);
  if (paths.length === 0) return ["one of ca_bundle_path or ca_bundle_paths must be configured"];
  const flaws = paths.flatMap((path) => {
    const reason = flawOfBundle(path);
    return reason === undefined ? [] : [`unable to load trust bundle ${quote(path)}: ${reason}`];
  });
  return isBoth ? [both, ...flaws] : flaws;
}

function flawOfBundle(path: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    return `open ${path}: ${systemErrorText(error)}`;
  }
  try {
    readPemCertificates(text);
    return undefined;
  } catch (error) {
    return SpireError.from(error).message;
  }
}

function checkAgentPathTemplate(data: Data): readonly string[] {
  const template = textIn(data, "agent_path_template");
  if (template === "") return [];
  try {
    parseAgentPathTemplate(template);
    return [];
  } catch (error) {
    return [`failed to parse agent svid template: ${quote(template)} (${SpireError.from(error).message})`];
  }
}

/** Of options that hold. */
export function readX509popServer(data: Data): X509popServerConfig {
  const template = textIn(data, "agent_path_template");
  const prefix = String(data["spiffe_prefix"] ?? "/spire-exchange/");
  return {
    type: "x509pop",
    trust:
      data["mode"] === "spiffe"
        ? { mode: "spiffe", prefix: prefix.endsWith("/") ? prefix : `${prefix}/` }
        : { mode: "external_pki", caBundlePaths: bundlePathsOf(data) },
    ...(template !== "" && { agentPathTemplate: template }),
    maxIntermediates: Number(data["max_intermediates"] ?? 4),
    maxRsaKeySize: Number(data["max_rsa_key_size"] ?? 8192),
    verifyClientIp: data["verify_client_ip"] === true,
  };
}

/** Where the agent's half finds certificate and key. */
export type X509popAgentConfig = { readonly type: "x509pop" } & (
  | {
      readonly source: "files";
      readonly certificatePath: string;
      readonly privateKeyPath: string;
      readonly intermediatesPath?: string;
    }
  /** Another agent's Workload API. */
  | { readonly source: "workload-api"; readonly socketPath: string }
);

const unixAddress = /^unix:(?:\/\/)?(\/.+)$/;

/** What is wrong, in SPIRE's words. */
export function checkX509popAgent(data: Data): readonly string[] {
  const socket = textIn(data, "spiffe_endpoint_socket");
  if (socket !== "") {
    return unixAddress.test(socket)
      ? []
      : [`spiffe_endpoint_socket must be a Unix socket such as unix:///run/agent.sock, not ${quote(socket)}`];
  }
  return ["private_key_path", "certificate_path"].flatMap((option) =>
    textIn(data, option) === "" ? [`${option} is required`] : [],
  );
}

/** Of options that hold. */
export function readX509popAgent(data: Data): X509popAgentConfig {
  const [, socketPath] = unixAddress.exec(textIn(data, "spiffe_endpoint_socket")) ?? [];
  if (socketPath !== undefined) return { type: "x509pop", source: "workload-api", socketPath };
  const intermediatesPath = textIn(data, "intermediates_path").trim();
  return {
    type: "x509pop",
    source: "files",
    certificatePath: textIn(data, "certificate_path"),
    privateKeyPath: textIn(data, "private_key_path"),
    ...(intermediatesPath !== "" && { intermediatesPath }),
  };
}
