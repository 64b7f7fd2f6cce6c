/** `federation.bundle_endpoint`: raw values > where the trust bundle is served, and what the endpoint is known by. */
import { accessSync, constants, readFileSync } from "node:fs";
import { validateDnsName } from "../core/dns-name.ts";
import { SpireError } from "../core/errors.ts";
import { quote, systemErrorText } from "../core/go-text.ts";
import { checkPemPair } from "../core/x509/pem-pair.ts";
import type { Checks } from "./checks.ts";
import type { Origin } from "./origin.ts";
import type { FederationConfig, WebCertificateConfig } from "./server-config.ts";
import type { RawServerFile } from "./server-schema.ts";

type RawFederation = NonNullable<NonNullable<RawServerFile["server"]>["federation"]>;
type RawEndpoint = NonNullable<RawFederation["bundle_endpoint"]>;
type RawAcme = NonNullable<RawEndpoint["acme"]>;
type RawWeb = NonNullable<NonNullable<RawEndpoint["profile"]>["https_web"]>;
type RawFiles = NonNullable<RawWeb["serving_cert_file"]>;

interface Endpoint {
  readonly endpoint: NonNullable<FederationConfig["bundleEndpoint"]>;
  /** One sentence each, with its place. */
  readonly warnings: readonly string[];
}

const path = "server.federation.bundle_endpoint";
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory";
const defaultSyncMs = 3_600_000;

/** @throws SpireError for the first thing that doesn't hold. */
export function readBundleEndpoint(raw: RawEndpoint, origin: Origin, checks: Checks): Endpoint {
  const { address = "0.0.0.0", port = 0, refresh_hint: hint } = raw;
  const failure = `could not parse refresh_hint ${quote(hint ?? "")}`;
  const refreshHintSeconds = checks.seconds(hint, `${path}.refresh_hint`, failure);
  const { webCertificate, warnings } = readCertificate(raw, origin, checks);
  return {
    endpoint: {
      address,
      port: checks.port(port, `${path}.port`, 0),
      ...(refreshHintSeconds !== undefined && { refreshHintSeconds }),
      ...(webCertificate && { webCertificate }),
    },
    warnings: port === 0 ? [...warnings, `${origin.placeOf(`${path}.port`)}: ${freePort}`] : warnings,
  };
}

const freePort = "server.federation.bundle_endpoint.port is not set: the bundle is served at a free port";

interface Certificate {
  readonly webCertificate?: WebCertificateConfig;
  readonly warnings: readonly string[];
}

function readCertificate({ acme, profile }: RawEndpoint, origin: Origin, checks: Checks): Certificate {
  if (acme && profile) {
    const message = "either bundle endpoint 'acme' or 'profile' can be set, but not both";
    throw origin.problem(message, `${path}.acme`, 'keep profile "https_web" { acme { … } }');
  }
  if (acme) {
    for (const option of ["domain_name", "email"] as const) {
      if (acme[option]) continue;
      const message = `federation.bundle_endpoint.acme.${option} must be configured`;
      throw origin.problem(message, `${path}.acme.${option}`);
    }
    const webCertificate = readAcme(acme, `${path}.acme`, origin, checks);
    return { webCertificate, warnings: [] };
  }
  if (!profile) return { warnings: [] };
  const { https_spiffe: spiffe, https_web: web } = profile;
  if (spiffe && web)
    throw origin.problem("exactly one bundle endpoint profile is expected", `${path}.profile`);
  if (web) return { webCertificate: readWeb(web, origin, checks), warnings: [] };
  if (spiffe) return { warnings: [] };
  const message = `unknown bundle endpoint profile configured; current supported profiles are "https_spiffe" and 'https_web"`;
  throw origin.problem(message, `${path}.profile`);
}

function readWeb({ acme, serving_cert_file: files }: RawWeb, origin: Origin, checks: Checks) {
  const place = `${path}.profile.https_web`;
  if (acme && files) {
    throw origin.problem(
      "either 'acme' or 'serving_cert_file' can be set, but not both",
      place,
      "remove one",
    );
  }
  if (acme) return readAcme(acme, `${place}.acme`, origin, checks);
  if (files) return readFiles(files, `${place}.serving_cert_file`, origin, checks);
  const message = "malformed https_web profile configuration: 'acme' or 'serving_cert_file' is required";
  throw origin.problem(message, place);
}

function readAcme(acme: RawAcme, place: string, origin: Origin, checks: Checks): WebCertificateConfig {
  const directoryUrl = acme.directory_url || letsEncrypt;
  if (!URL.canParse(directoryUrl) || new URL(directoryUrl).protocol !== "https:") {
    throw origin.problem(
      `directory_url must be an https URL, not ${quote(directoryUrl)}`,
      `${place}.directory_url`,
    );
  }
  return {
    type: "acme",
    directoryUrl,
    domainName: readDomainName(checks.required(acme.domain_name, `${place}.domain_name`), place, origin),
    email: acme.email ?? "",
    tosAccepted: acme.tos_accepted ?? false,
  };
}

/** A certificate for a wildcard can't be had by a validation within TLS (RFC 8737, section 3). */
function readDomainName(name: string, place: string, origin: Origin): string {
  try {
    const valid = validateDnsName(name);
    if (!valid.startsWith("*")) return valid.toLowerCase();
  } catch {
    // Said below.
  }
  throw origin.problem(`domain_name ${quote(name)} is no host name`, `${place}.domain_name`);
}

function flawOfFile(path: string): string | undefined {
  try {
    accessSync(path, constants.R_OK);
    return undefined;
  } catch (error) {
    return systemErrorText(error);
  }
}

function readFiles(files: RawFiles, place: string, origin: Origin, checks: Checks): WebCertificateConfig {
  const option = `${place}.file_sync_interval`;
  const syncIntervalMs = checks.durationMs(files.file_sync_interval, option, "") ?? defaultSyncMs;
  const certPath = checks.required(files.cert_file_path, `${place}.cert_file_path`);
  const keyPath = checks.required(files.key_file_path, `${place}.key_file_path`);
  for (const file of [certPath, keyPath]) {
    const flaw = flawOfFile(file);
    if (flaw !== undefined) throw origin.problem(`failed to load certificate: open ${file}: ${flaw}`, place);
  }
  try {
    checkPemPair(readFileSync(certPath, "utf8"), readFileSync(keyPath, "utf8"), { certPath, keyPath });
  } catch (error) {
    throw origin.problem(`failed to load certificate: ${SpireError.from(error).message}`, place);
  }
  return { type: "files", certPath, keyPath, syncIntervalMs };
}
