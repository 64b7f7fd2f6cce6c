/** `spire server bundle …`: the server's own trust bundle and those of federated trust domains. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { formatPemBundle, formatSpiffeBundle, type TrustBundle } from "../core/trust-bundle.ts";
import type { Channel } from "../rpc/dial.ts";
import {
  BatchDeleteFederatedBundleRequest_Mode,
  BundleService,
} from "../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import type { Bundle } from "../rpc/gen/spire/api/types/bundle.ts";
import type { Status } from "../rpc/gen/spire/api/types/status.ts";
import { type BundleFormat, parseBundleFormat, parseBundleText } from "./bundle-data.ts";
import { command, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { readTextFile } from "./files.ts";
import { stringFlag } from "./flags.ts";
import { quote } from "./go-text.ts";
import { counted, print, reply } from "./print.ts";

const formatFlag = stringFlag("The format of the bundle: pem or spiffe", "pem", ["pem", "spiffe"]);
const idFlag = stringFlag("SPIFFE ID of the trust domain");

export const bundleShow = command({
  name: "bundle show",
  summary: "Prints the server's own trust bundle",
  example: "bundle show -format spiffe",
  flags: { ...serverFlags, format: formatFlag },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withServer(invocation, async (channel) => {
      const bundle = await channel.client(BundleService).getBundle({ outputMask: undefined });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleService.getBundle, bundle)],
        pretty: () => terminal.out(formatBundle(bundle, parseBundleFormat(flags.format))),
      });
    });
  },
});

export const bundleList = command({
  name: "bundle list",
  summary: "Lists the bundles of federated trust domains",
  example: "bundle list -id spiffe://other.example",
  flags: { ...serverFlags, id: idFlag, format: formatFlag },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withServer(invocation, async (channel) => {
      if (flags.id !== "") {
        const request = { trustDomain: flags.id, outputMask: undefined };
        const bundle = await channel.client(BundleService).getFederatedBundle(request);
        return print({
          output: flags.output,
          terminal,
          replies: [reply(BundleService.getFederatedBundle, bundle)],
          pretty: () => terminal.out(formatBundle(bundle, parseBundleFormat(flags.format))),
        });
      }
      const bundles = await listBundles(channel);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleService.listFederatedBundles, { bundles, nextPageToken: "" })],
        pretty: () =>
          terminal.out(bundles.map((bundle) => titled(bundle, parseBundleFormat(flags.format))).join("\n")),
      });
    });
  },
});

export const bundleCount = command({
  name: "bundle count",
  summary: "Counts the trust domains whose bundle the server holds, its own among them",
  example: "bundle count",
  flags: serverFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withServer(invocation, async (channel) => {
      const response = await channel.client(BundleService).countBundles({});
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleService.countBundles, response)],
        pretty: () => terminal.out(`${counted(response.count, "bundle", "bundles")}\n`),
      });
    });
  },
});

export const bundleSet = command({
  name: "bundle set",
  summary: "Creates or replaces the bundle of a federated trust domain",
  example: "bundle set -id spiffe://other.example -path other.pem",
  flags: {
    ...serverFlags,
    id: idFlag,
    path: stringFlag("Path to the bundle data; standard input if not set"),
    format: formatFlag,
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.id === "") throw invalidArgument("id flag is required");
    const format = parseBundleFormat(flags.format);
    const bundle = await readBundle(flags.id, flags.path, format, terminal);
    return withServer(invocation, async (channel) => {
      const request = { bundle: [bundle], outputMask: undefined };
      const response = await channel.client(BundleService).batchSetFederatedBundle(request);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleService.batchSetFederatedBundle, response)],
        pretty: () => {
          requireOk(response.results[0]?.status, "failed to set federated bundle");
          terminal.out("bundle set.\n");
        },
      });
    });
  },
});

export const bundleDelete = command({
  name: "bundle delete",
  summary: "Deletes the bundle of a federated trust domain",
  example: "bundle delete -id spiffe://other.example -mode dissociate",
  flags: {
    ...serverFlags,
    id: idFlag,
    mode: stringFlag(
      "What becomes of entries that federate with it: restrict (refuse), delete (them too) or dissociate",
      "restrict",
      ["restrict", "delete", "dissociate"],
    ),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.id === "") throw invalidArgument("id is required");
    const name = flags.mode || "restrict";
    const mode = Object.hasOwn(deleteModes, name) ? deleteModes[name] : undefined;
    if (mode === undefined) throw invalidArgument(`unsupported mode ${quote(flags.mode)}`);
    return withServer(invocation, async (channel) => {
      const request = { trustDomains: [flags.id], mode };
      const response = await channel.client(BundleService).batchDeleteFederatedBundle(request);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleService.batchDeleteFederatedBundle, response)],
        pretty: () => {
          requireOk(response.results[0]?.status, `failed to delete federated bundle ${quote(flags.id)}`);
          terminal.out("bundle deleted.\n");
        },
      });
    });
  },
});

const deleteModes: Readonly<Record<string, BatchDeleteFederatedBundleRequest_Mode>> = {
  restrict: BatchDeleteFederatedBundleRequest_Mode.RESTRICT,
  delete: BatchDeleteFederatedBundleRequest_Mode.DELETE,
  dissociate: BatchDeleteFederatedBundleRequest_Mode.DISSOCIATE,
};

function requireOk(status: Status | undefined, context: string): void {
  if (status?.code !== 0) throw invalidArgument(`${context}: ${status?.message ?? "no answer"}`);
}

async function listBundles(channel: Channel): Promise<Bundle[]> {
  const client = channel.client(BundleService);
  const bundles: Bundle[] = [];
  let pageToken = "";
  do {
    const page = await client.listFederatedBundles({ outputMask: undefined, pageSize: 100, pageToken });
    bundles.push(...page.bundles);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return bundles;
}

const stars = "*".repeat(40);

const titled = (bundle: Bundle, format: BundleFormat): string =>
  `${stars}\n* ${bundle.trustDomain}\n${stars}\n${formatBundle(bundle, format)}`;

function formatBundle(message: Bundle, format: BundleFormat): string {
  const bundle = fromMessage(message);
  return format === "pem" ? formatPemBundle(bundle) : `${formatSpiffeBundle(bundle).trimEnd()}\n`;
}

function fromMessage(message: Bundle): TrustBundle {
  return {
    trustDomain: parseTrustDomain(message.trustDomain),
    x509Authorities: message.x509Authorities.map(({ asn1, tainted }) => ({ der: asn1, tainted })),
    jwtAuthorities: message.jwtAuthorities,
    witAuthorities: message.witAuthorities,
    refreshHint: message.refreshHint,
    sequenceNumber: message.sequenceNumber,
  };
}

async function readBundle(
  id: string,
  path: string,
  format: BundleFormat,
  terminal: Terminal,
): Promise<Bundle> {
  return parseBundleText(id, await loadText(path, terminal), format);
}

async function loadText(path: string, terminal: Terminal): Promise<string> {
  try {
    return await readTextFile(path === "" ? "-" : path, terminal);
  } catch (error) {
    throw SpireError.from(error).within("unable to load bundle data");
  }
}
