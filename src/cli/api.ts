/** `spire agent api …`: what a workload would get from the Workload API, fetched, watched and validated. */
import { join } from "node:path";
import { sleep, systemClock } from "../core/clock.ts";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { formatPemCertificates, parseCertificate, splitDer } from "../core/x509/certificate.ts";
import { SpiffeWorkloadAPIService } from "../rpc/gen/spiffe/workload/workloadapi.ts";
import type { Client } from "../rpc/service.ts";
import { command, type Terminal } from "./command.ts";
import { agentFlags, agentSocketFlags, RpcFailure, withAgent } from "./connection.ts";
import { privateMode, publicMode, writeTextFile } from "./files.ts";
import { boolFlag, commaListFlag, outputFlag, stringFlag } from "./flags.ts";
import { formatGoDuration, formatGoTime } from "./go-text.ts";
import { formatPemKey } from "./pem.ts";
import { counted, formatJson, print, reply } from "./print.ts";

type WorkloadApi = Client<typeof SpiffeWorkloadAPIService>;
type X509Response = ReturnType<typeof SpiffeWorkloadAPIService.fetchX509Svid.responseDeserialize>;
type X509Svid = X509Response["svids"][number];
type JwtResponse = ReturnType<typeof SpiffeWorkloadAPIService.fetchJwtsvid.responseDeserialize>;
type JwtBundles = ReturnType<typeof SpiffeWorkloadAPIService.fetchJwtBundles.responseDeserialize>;

/** Without it the Workload API refuses: it shows that the caller isn't tricked into the call (endpoint standard, 4). */
const securityHeader = { "workload.spiffe.io": "true" };

const apiCommand = { errorPrefix: "", repeatsFlagErrorAfter: "" } as const;

export const fetchX509 = command({
  ...apiCommand,
  name: "fetch x509",
  summary: "Fetches X.509-SVIDs from the Workload API",
  example: "api fetch x509 -write ./svids",
  flags: {
    ...agentFlags,
    silent: boolFlag("Suppress standard output"),
    write: stringFlag("Write the SVID data to this directory (optional; needs pretty output)"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withAgent(invocation, async (channel) => {
      const begun = performance.now();
      const api = channel.client(SpiffeWorkloadAPIService);
      const response = await first(api.fetchX509Svid({}, callOptions(flags.timeout)));
      const elapsed = performance.now() - begun;
      if (flags.silent && flags.write === "") return 0;
      const shown = flags.silent ? { ...terminal, out: () => {} } : terminal;
      return print({
        output: flags.output,
        terminal: shown,
        replies: [reply(SpiffeWorkloadAPIService.fetchX509Svid, response)],
        pretty: async () => {
          shown.out(formatSvids(response, elapsed, (id) => id));
          if (flags.write !== "") await writeSvids(response, flags.write, shown);
        },
      });
    });
  },
});

export const fetchJwt = command({
  ...apiCommand,
  name: "fetch jwt",
  summary: "Fetches a JWT-SVID from the Workload API",
  example: "api fetch jwt -audience api",
  flags: {
    ...agentFlags,
    audience: commaListFlag("Audiences between commas; can be used more than once"),
    spiffeID: stringFlag("SPIFFE ID subject (optional)"),
    format: { ...outputFlag, usage: "Deprecated: use -output", shown: "" },
  },
  run: async (invocation) => {
    const { flags, given, terminal } = invocation;
    if (flags.audience.length === 0) throw invalidArgument("audience must be specified");
    return withAgent(invocation, async (channel) => {
      const api = channel.client(SpiffeWorkloadAPIService);
      const bundles = await fetchJwtBundles(api, flags.timeout);
      const request = { audience: [...flags.audience], spiffeId: flags.spiffeID };
      const svids = await api.fetchJwtsvid(request, callOptions(flags.timeout));
      return print({
        output: given.has("output") ? flags.output : flags.format,
        terminal,
        replies: [
          reply(SpiffeWorkloadAPIService.fetchJwtsvid, svids),
          reply(SpiffeWorkloadAPIService.fetchJwtBundles, bundles),
        ],
        pretty: () => terminal.out(formatJwtSvids(svids, bundles)),
      });
    });
  },
});

export const validateJwt = command({
  ...apiCommand,
  name: "validate jwt",
  summary: "Validates a JWT-SVID",
  example: "api validate jwt -audience api -svid $TOKEN",
  flags: {
    ...agentFlags,
    audience: stringFlag("Expected audience value"),
    svid: stringFlag("JWT-SVID to be validated"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.audience === "") throw invalidArgument("audience must be specified");
    if (flags.svid === "") throw invalidArgument("svid must be specified");
    return withAgent(invocation, async (channel) => {
      const response = await validate(channel.client(SpiffeWorkloadAPIService), flags);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(SpiffeWorkloadAPIService.validateJwtsvid, response)],
        pretty: () => {
          terminal.out(`SVID is valid.\nSPIFFE ID : ${response.spiffeId}\n`);
          terminal.out(`Claims    : ${formatJson(response.claims ?? {})}\n`);
        },
      });
    });
  },
});

export const watch = command({
  ...apiCommand,
  name: "watch",
  summary: "Prints each X.509-SVID update of the Workload API until it is stopped",
  example: "api watch",
  flags: agentSocketFlags,
  run: async (invocation) => {
    const { terminal } = invocation;
    const stop = new AbortController();
    const stopped = terminal.untilStopped().then(() => stop.abort());
    while (!stop.signal.aborted) {
      await withAgent(invocation, (channel) =>
        follow(channel.client(SpiffeWorkloadAPIService), terminal, stop.signal),
      );
      await sleep(systemClock, retryMs, stop.signal);
    }
    await stopped;
    return 0;
  },
});

const retryMs = 1_000;

/** Until the stream ends or `stop` is aborted. @throws SpireError when trying again makes no sense. */
async function follow(api: WorkloadApi, terminal: Terminal, stop: AbortSignal): Promise<void> {
  let begun = performance.now();
  try {
    for await (const response of api.fetchX509Svid({}, { metadata: securityHeader, signal: stop })) {
      terminal.out(formatSvids(response, performance.now() - begun, (id) => id.replace("spiffe://", "")));
      begun = performance.now();
    }
  } catch (error) {
    if (stop.aborted) return;
    const failure = SpireError.from(error);
    if (failure.code !== "UNAVAILABLE") throw failure;
    terminal.err(`${failure.message}\n`);
  }
}

const callOptions = (timeoutMs: number) => ({ metadata: securityHeader, timeoutMs });

/** The first message of a stream, which is then ended. */
async function first<T>(stream: AsyncIterable<T>): Promise<T> {
  for await (const message of stream) return message;
  throw new SpireError("UNAVAILABLE", "the stream ended without an answer");
}

async function fetchJwtBundles(api: WorkloadApi, timeoutMs: number): Promise<JwtBundles> {
  try {
    return await first(api.fetchJwtBundles({}, callOptions(timeoutMs)));
  } catch (error) {
    throw SpireError.from(error).within("failed to receive JWT bundles");
  }
}

interface ValidateFlags {
  readonly audience: string;
  readonly svid: string;
  readonly timeout: number;
}

async function validate(api: WorkloadApi, { audience, svid, timeout }: ValidateFlags) {
  try {
    return await api.validateJwtsvid({ audience, svid }, callOptions(timeout));
  } catch (error) {
    if (error instanceof RpcFailure && error.code === "INVALID_ARGUMENT") {
      throw invalidArgument(`SVID is not valid: ${error.description}`);
    }
    throw error;
  }
}

/** `label` names a federated trust domain, given its SPIFFE ID. */
function formatSvids(response: X509Response, elapsedMs: number, label: (id: string) => string): string {
  const svids = response.svids.map((svid) => `${formatSvid(svid, response, label)}\n`).join("");
  return `Received ${counted(response.svids.length, "svid", "svids")} after ${formatGoDuration(elapsedMs)}\n\n${svids}`;
}

function formatSvid(svid: X509Svid, response: X509Response, label: (id: string) => string): string {
  const [leaf, ...intermediates] = splitDer(svid.x509Svid);
  if (!leaf) throw new SpireError("INTERNAL", `the SVID of ${svid.spiffeId} holds no certificate`);
  const hint = svid.hint === "" ? "" : `Hint:\t\t\t${svid.hint}\n`;
  return [
    `SPIFFE ID:\t\t${svid.spiffeId}\n${hint}`,
    formatValidity("SVID", leaf),
    ...intermediates.map((der, index) => formatValidity(`Intermediate #${index + 1}`, der)),
    ...splitDer(svid.bundle).map((der, index) => formatValidity(`CA #${index + 1}`, der)),
    ...federatedBundles(response).flatMap(([id, bundle]) =>
      splitDer(bundle).map((der, index) => formatValidity(`[${label(id)}] CA #${index + 1}`, der)),
    ),
  ].join("");
}

function formatValidity(what: string, der: Uint8Array): string {
  const { notBefore, notAfter } = parseCertificate(der);
  return `${what} Valid After:\t${formatGoTime(notBefore)}\n${what} Valid Until:\t${formatGoTime(notAfter)}\n`;
}

const federatedBundles = (response: X509Response): [string, Uint8Array][] =>
  Object.entries(response.federatedBundles).sort(([a], [b]) => (a < b ? -1 : 1));

async function writeSvids(response: X509Response, directory: string, terminal: Terminal): Promise<void> {
  const write = async (what: string, name: string, text: string, mode: number) => {
    const path = join(directory, name);
    terminal.out(`Writing ${what} to file ${path}.\n`);
    await writeTextFile(path, text, mode);
  };
  const pem = (concatenated: Uint8Array) => formatPemCertificates(splitDer(concatenated));
  for (const [index, svid] of response.svids.entries()) {
    await write(`SVID #${index}`, `svid.${index}.pem`, pem(svid.x509Svid), publicMode);
    await write(`key #${index}`, `svid.${index}.key`, formatPemKey(svid.x509SvidKey), privateMode);
    await write(`bundle #${index}`, `bundle.${index}.pem`, pem(svid.bundle), publicMode);
    for (const [number, [id, bundle]] of federatedBundles(response).entries()) {
      const what = `federated bundle #${number} for trust domain ${id}`;
      await write(what, `federated_bundle.${index}.${number}.pem`, pem(bundle), publicMode);
    }
  }
}

function formatJwtSvids(response: JwtResponse, { bundles }: JwtBundles): string {
  const svids = response.svids.map(({ spiffeId, svid, hint }) => {
    const shownHint = hint === "" ? "" : `hint(${spiffeId}):\n\t${hint}\n`;
    return `token(${spiffeId}):\n\t${svid}\n${shownHint}`;
  });
  const sets = Object.entries(bundles)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([id, jwks]) => `bundle(${id}):\n\t${Buffer.from(jwks).toString("utf8")}\n`);
  return [...svids, ...sets].join("");
}
