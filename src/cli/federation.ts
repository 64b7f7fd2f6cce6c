/** `spire server federation …`: the trust domains whose bundles the server fetches. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Channel } from "../rpc/dial.ts";
import { TrustDomainService } from "../rpc/gen/spire/api/server/trustdomain/v1/trustdomain.ts";
import type { FederationRelationship } from "../rpc/gen/spire/api/types/federationrelationship.ts";
import type { Status } from "../rpc/gen/spire/api/types/status.ts";
import { command, type Invocation, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { parseRelationshipDocument, readBundleFile, relationshipMessage } from "./federation-data.ts";
import { readTextFile } from "./files.ts";
import { stringFlag } from "./flags.ts";
import { goCodeName, quote } from "./go-text.ts";
import { counted, formatJson, print, reply } from "./print.ts";

const draftFlags = {
  ...serverFlags,
  trustDomain: stringFlag("The trust domain to federate with, such as other.example"),
  bundleEndpointURL: stringFlag("URL of its bundle endpoint; must use https"),
  bundleEndpointProfile: stringFlag("How the endpoint is authenticated: https_web or https_spiffe", "", [
    "https_web",
    "https_spiffe",
  ]),
  endpointSpiffeID: stringFlag("SPIFFE ID of the endpoint; for https_spiffe"),
  trustDomainBundlePath: stringFlag("Path to the trust domain's bundle (optional); - reads standard input"),
  trustDomainBundleFormat: stringFlag("The format of the bundle: pem or spiffe", "pem", ["pem", "spiffe"]),
  data: stringFlag("Path to a file with relationships in JSON (optional); - reads standard input"),
};

const example =
  "-trustDomain other.example -bundleEndpointURL https://other.example:8443 -bundleEndpointProfile https_web";

export const federationCreate = command({
  name: "federation create",
  summary: "Creates federation relationships",
  example: `federation create ${example}`,
  flags: draftFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const federationRelationships = await readRelationships(invocation);
    return withServer(invocation, async (channel) => {
      const request = { federationRelationships, outputMask: undefined };
      const response = await channel.client(TrustDomainService).batchCreateFederationRelationship(request);
      const results = asAskedFor(response.results, federationRelationships);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(TrustDomainService.batchCreateFederationRelationship, response)],
        pretty: () => printResults(results, "create", terminal),
      });
    });
  },
});

export const federationUpdate = command({
  name: "federation update",
  summary: "Replaces federation relationships",
  example: `federation update ${example}`,
  flags: draftFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const federationRelationships = await readRelationships(invocation);
    return withServer(invocation, async (channel) => {
      const request = { federationRelationships, inputMask: undefined, outputMask: undefined };
      const response = await channel.client(TrustDomainService).batchUpdateFederationRelationship(request);
      const results = asAskedFor(response.results, federationRelationships);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(TrustDomainService.batchUpdateFederationRelationship, response)],
        pretty: () => printResults(results, "update", terminal),
      });
    });
  },
});

export const federationList = command({
  name: "federation list",
  summary: "Lists federation relationships",
  example: "federation list",
  flags: serverFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withServer(invocation, async (channel) => {
      const federationRelationships = await listRelationships(channel).catch((error: unknown) => {
        throw SpireError.from(error).within("error listing federation relationship");
      });
      const count = federationRelationships.length;
      const answer = { federationRelationships, nextPageToken: "" };
      return print({
        output: flags.output,
        terminal,
        replies: [reply(TrustDomainService.listFederationRelationships, answer)],
        pretty: () => {
          terminal.out(`Found ${counted(count, "federation relationship", "federation relationships")}\n`);
          for (const item of federationRelationships) terminal.out(`\n${formatRelationship(item)}`);
        },
      });
    });
  },
});

export const federationShow = command({
  name: "federation show",
  summary: "Shows a federation relationship",
  example: "federation show -trustDomain other.example",
  flags: { ...serverFlags, trustDomain: stringFlag("The trust domain of the relationship") },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.trustDomain === "") throw invalidArgument("a trust domain name is required");
    return withServer(invocation, async (channel) => {
      const request = { trustDomain: flags.trustDomain, outputMask: undefined };
      const relationship = await channel
        .client(TrustDomainService)
        .getFederationRelationship(request)
        .catch((error: unknown) => {
          throw SpireError.from(error).within("error showing federation relationship");
        });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(TrustDomainService.getFederationRelationship, relationship)],
        pretty: () => {
          terminal.out(`Found a federation relationship with trust domain ${flags.trustDomain}:\n\n`);
          terminal.out(formatRelationship(relationship));
        },
      });
    });
  },
});

const idFlag = stringFlag("SPIFFE ID or name of the trust domain");

export const federationDelete = command({
  name: "federation delete",
  summary: "Deletes a federation relationship; the trust domain's bundle stays",
  example: "federation delete -id other.example",
  flags: { ...serverFlags, id: idFlag },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.id === "") throw invalidArgument("id is required");
    return withServer(invocation, async (channel) => {
      const request = { trustDomains: [flags.id] };
      const response = await channel.client(TrustDomainService).batchDeleteFederationRelationship(request);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(TrustDomainService.batchDeleteFederationRelationship, response)],
        pretty: () => {
          const status = response.results[0]?.status;
          if (status?.code !== 0) {
            const reason = status?.message ?? "no answer";
            throw invalidArgument(`failed to delete federation relationship ${quote(flags.id)}: ${reason}`);
          }
          terminal.out("federation relationship deleted.\n");
        },
      });
    });
  },
});

export const federationRefresh = command({
  name: "federation refresh",
  summary: "Fetches the bundle of a federated trust domain now",
  example: "federation refresh -id other.example",
  flags: { ...serverFlags, id: idFlag },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.id === "") throw invalidArgument("id is required");
    return withServer(invocation, async (channel) => {
      await channel
        .client(TrustDomainService)
        .refreshBundle({ trustDomain: flags.id })
        .catch((caught: unknown) => {
          const error = SpireError.from(caught);
          if (error.code !== "NOT_FOUND") throw error.within("failed to refresh bundle");
          const name = quote(flags.id);
          throw invalidArgument(`there is no federation relationship with trust domain ${name}`, error);
        });
      // The answer itself is empty; SPIRE shows it as a status.
      terminal.out(
        flags.output === "json" ? `${formatJson({ code: 0, message: "OK" })}\n` : "Bundle refreshed\n",
      );
      return 0;
    });
  },
});

async function readRelationships({
  flags,
  terminal,
}: Invocation<typeof draftFlags>): Promise<FederationRelationship[]> {
  if (flags.data !== "") {
    const { trustDomainBundleFormat: format, data: _, ...others } = draftFlags;
    const isGiven = (name: keyof typeof others) => !(name in serverFlags) && flags[name] !== "";
    if (
      flags.trustDomainBundleFormat !== format.initial ||
      (Object.keys(others) as (keyof typeof others)[]).some(isGiven)
    )
      throw invalidArgument("cannot use other flags to specify relationship fields when 'data' flag is set");
    return parseRelationshipDocument(await readTextFile(flags.data, terminal));
  }
  const draft = { ...flags, endpointSPIFFEID: flags.endpointSpiffeID };
  const relationship = relationshipMessage(draft, undefined);
  const { trustDomainBundlePath: path, trustDomainBundleFormat: format } = flags;
  return [
    { ...relationship, trustDomainBundle: await readBundleFile(flags.trustDomain, path, format, terminal) },
  ];
}

async function listRelationships(channel: Channel): Promise<FederationRelationship[]> {
  const client = channel.client(TrustDomainService);
  const found: FederationRelationship[] = [];
  let pageToken = "";
  do {
    const page = await client.listFederationRelationships({
      outputMask: undefined,
      pageSize: 100,
      pageToken,
    });
    found.push(...page.federationRelationships);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

interface Result {
  status: Status | undefined;
  federationRelationship: FederationRelationship | undefined;
}

/** A failed item shows the relationship that was asked for. */
const asAskedFor = (results: readonly Result[], asked: readonly FederationRelationship[]): Result[] =>
  results.map(({ status, federationRelationship }, index) => ({
    status,
    federationRelationship: status?.code === 0 ? federationRelationship : asked[index],
  }));

/** @returns the exit code. */
function printResults(results: readonly Result[], verb: "create" | "update", terminal: Terminal): number {
  const failed = results.filter(({ status }) => status?.code !== 0);
  for (const { status, federationRelationship } of results) {
    if (status?.code === 0 && federationRelationship) {
      terminal.out(`\n${formatRelationship(federationRelationship)}`);
    }
  }
  for (const { status, federationRelationship } of failed) {
    const reason = `code: ${goCodeName(status?.code ?? 2)}, msg: ${quote(status?.message ?? "")}`;
    terminal.err(`Failed to ${verb} the following federation relationship (${reason}):\n`);
    terminal.out("\n");
    if (federationRelationship) terminal.err(formatRelationship(federationRelationship));
  }
  if (failed.length > 0) terminal.err(`Error: failed to ${verb} one or more federation relationships\n`);
  return failed.length > 0 ? 1 : 0;
}

function formatRelationship({
  trustDomain,
  bundleEndpointUrl,
  bundleEndpointProfile: profile,
}: FederationRelationship): string {
  const isSpiffe = profile?.$case === "httpsSpiffe";
  const lines: [string, string][] = [
    ["Trust domain", trustDomain],
    ["Bundle endpoint URL", bundleEndpointUrl],
    ["Bundle endpoint profile", isSpiffe ? "https_spiffe" : "https_web"],
    ...(isSpiffe ? ([["Endpoint SPIFFE ID", profile.value.endpointSpiffeId]] as [string, string][]) : []),
  ];
  return lines.map(([label, value]) => `${label.padEnd(26)}: ${value}\n`).join("");
}
