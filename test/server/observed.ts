/** All that a server logs and measures while the recorded calls, and some more, are made to it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonValue } from "@bufbuild/protobuf";
import type { TelemetryConfig } from "../../src/config/telemetry.ts";
import { parseTrustDomain, serverId } from "../../src/core/spiffe-id.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { type CallReplayer, createCallReplayer } from "./golden-calls.ts";
import {
  attestationFiles,
  configuredAdmin,
  otherFiles,
  type RecordedMatrixRow,
  readGolden,
  recorded,
  type Scene,
  startAttestationScene,
  startMainScene,
} from "./golden-scenes.ts";
import { type LogLine, startTestServer } from "./running.ts";

export interface Observed {
  readonly logLines: readonly LogLine[];
  /** Pages of metrics in Prometheus' text format, one for each server. */
  readonly pages: readonly string[];
}

const telemetry: TelemetryConfig = {
  prometheus: { host: "127.0.0.1", port: 0 },
  statsd: [],
  dogStatsd: [],
  trustDomainLabel: false,
  hostnameLabel: true,
  filter: { allowedPrefixes: [], blockedPrefixes: [], blockedLabels: [] },
};

const settings = { auditLog: true, telemetry };

export async function observe(): Promise<Observed> {
  const replayer = await createCallReplayer();
  const attestation = await startAttestationScene(settings);
  await replayFiles(attestation, attestationFiles, replayer);
  const main = await startMainScene(settings);
  await replayFiles(main, otherFiles, replayer);
  await replayMatrix(main, replayer);
  await replayMore(main, replayer);
  const scenes = [attestation, main];
  const pages = await Promise.all(scenes.map(({ running }) => pageOf(running.server.prometheusAddress)));
  for (const { running } of scenes) await running.close();
  return { logLines: scenes.flatMap(({ running }) => running.logLines), pages };
}

const pageOf = async (address: string | undefined): Promise<string> =>
  (await fetch(`http://${address}/metrics`)).text();

async function replayFiles(scene: Scene, files: readonly string[], replayer: CallReplayer): Promise<void> {
  for (const call of files.flatMap(recorded)) {
    const channel = scene.callers.get(call.caller);
    if (!channel) continue;
    const sent = await scene.before(call);
    scene.after(call, await replayer.replay(sent, channel));
  }
}

async function replayMatrix({ running, callers }: Scene, replayer: CallReplayer): Promise<void> {
  callers.set("admin-ids-svid", running.dial(await running.mint(configuredAdmin)));
  for (const row of readGolden("authz-matrix") as readonly RecordedMatrixRow[]) {
    for (const [caller, result] of Object.entries(row.results)) {
      const channel = callers.get(caller);
      if (result !== "skipped" && channel) await replayer.replay(row, channel);
    }
  }
}

const api = "spire.api.server";

/** What the stock server was asked by its CLI while it was recorded. */
async function replayMore({ running }: Scene, replayer: CallReplayer): Promise<void> {
  const { local, server } = running;
  const send = (service: string, method: string, request: JsonValue, channel: Channel = local) =>
    replayer.replay({ service: `${api}.${service}`, method, request }, channel);

  await send("logger.v1.Logger", "SetLogLevel", { newLevel: "DEBUG" });
  await send("logger.v1.Logger", "ResetLogLevel", {});
  await askAboutAgents(send);

  const { id, channel } = await running.attest();
  await send("agent.v1.Agent", "PostStatus", { agentVersion: "1.2.3" }, channel);
  await send("bundle.v1.Bundle", "GetFederatedBundle", { trustDomain: "example.org" }, channel);
  await send("svid.v1.SVID", "BatchNewWITSVID", {}, channel);
  await server.registry.banAgent(id);
  const token = id.slice(id.lastIndexOf("/") + 1);
  await server.registry.createJoinToken({ token, ttlSeconds: 600 });
  await running.attest(token).catch(() => {});

  await askAboutEntries(send);
  await federate(send);
}

type Send = (
  service: string,
  method: string,
  request: JsonValue,
) => Promise<{ readonly response: JsonValue }>;

async function askAboutAgents(send: Send): Promise<void> {
  const selectors = { selectors: [{ type: "a", value: "b" }], match: "MATCH_SUPERSET" };
  const filters = [{ byBanned: true }, { byCanReattest: true }, { bySelectorMatch: selectors }];
  for (const filter of filters) await send("agent.v1.Agent", "CountAgents", { filter });
  await send("agent.v1.Agent", "CreateJoinToken", { ttl: 600 });
}

async function askAboutEntries(send: Send): Promise<void> {
  const path = (name: string) => ({ trustDomain: "example.org", path: name });
  const entry = { parentId: path("/parent"), selectors: [{ type: "unix", value: "uid:7" }] };
  const named = { ...entry, id: "more-1", spiffeId: path("/more1"), dnsNames: ["more.test"] };
  const federated = { ...entry, id: "more-2", spiffeId: path("/more2"), federatesWith: ["fw.test"] };
  await send("entry.v1.Entry", "BatchCreateEntry", { entries: [named, federated] });
  await send("entry.v1.Entry", "BatchUpdateEntry", {
    entries: [{ ...named, dnsNames: [], id: "more-none" }, named],
  });
  await send("entry.v1.Entry", "BatchUpdateEntry", {
    entries: [{ id: "more-1", dnsNames: ["more2.test"] }],
    inputMask: { dnsNames: true },
  });
  const bySelectors = { selectors: entry.selectors, match: "MATCH_SUPERSET" };
  const byFederatesWith = { trustDomains: ["fw.test"], match: "MATCH_SUPERSET" };
  const filters = [{}, { bySelectors }, { byHint: "h" }, { byParentId: path("/parent") }];
  const wider = [...filters, { bySpiffeId: path("/more1") }, { byFederatesWith }];
  for (const filter of filters) {
    await send("entry.v1.Entry", "CountEntries", { filter: { ...filter, byDownstream: false } });
  }
  for (const filter of [...wider, { byFederatesWith: { trustDomains: ["b@d"], match: "MATCH_ANY" } }]) {
    await send("entry.v1.Entry", "ListEntries", { filter: { ...filter, byDownstream: false } });
  }
}

/** With a second server, whose bundle is fetched. */
async function federate(send: Send): Promise<void> {
  const trustDomain = "second.test";
  const second = await startTestServer({
    trustDomain: parseTrustDomain(trustDomain),
    federation: { bundleEndpoint: { address: "127.0.0.1", port: 0 }, federatesWith: [] },
  });
  const url = `https://${second.server.bundleEndpointAddress}`;
  const endpointSpiffeId = serverId(parseTrustDomain(trustDomain));
  const exchanged = Object((await secondBundle(second.local)).response);
  const renamed = (name: string) => ({ ...exchanged, trustDomain: name });
  const onlyJwt = { ...renamed("jwt.test"), x509Authorities: [] };
  await send("bundle.v1.Bundle", "BatchSetFederatedBundle", { bundle: [renamed("set.test"), onlyJwt] });

  const own = {
    trustDomain,
    bundleEndpointUrl: url,
    httpsSpiffe: { endpointSpiffeId },
    trustDomainBundle: exchanged,
  };
  const keyless = { ...own, trustDomainBundle: { ...exchanged, jwtAuthorities: [] } };
  const web = { trustDomain: "web.second.test", bundleEndpointUrl: "https://127.0.0.1:1/", httpsWeb: {} };
  const create = (given: JsonValue) =>
    send("trustdomain.v1.TrustDomain", "BatchCreateFederationRelationship", {
      federationRelationships: [given],
    });
  const update = (given: JsonValue) =>
    send("trustdomain.v1.TrustDomain", "BatchUpdateFederationRelationship", {
      federationRelationships: [given],
    });
  await create(keyless);
  await send("trustdomain.v1.TrustDomain", "RefreshBundle", { trustDomain });
  await create(own);
  await create({ trustDomain, bundleEndpointUrl: url, httpsSpiffe: { endpointSpiffeId } });
  await send("trustdomain.v1.TrustDomain", "BatchDeleteFederationRelationship", {
    trustDomains: [trustDomain],
  });
  await create(own);
  await create(web);
  await create({ ...web, trustDomainBundle: renamed(web.trustDomain) });
  await update({ ...web, trustDomain: "none.test" });
  await update({ ...web, bundleEndpointUrl: "https://127.0.0.1:2/" });
  await update({ trustDomain, bundleEndpointUrl: `${url}/`, httpsSpiffe: { endpointSpiffeId } });
  await second.close();
}

async function secondBundle(local: Channel): Promise<{ readonly response: JsonValue }> {
  const replayer = await createCallReplayer();
  const call = { service: `${api}.bundle.v1.Bundle`, method: "GetBundle", request: {} };
  return replayer.replay(call, local);
}

/** What was recorded of the stock server. */
export const readRecorded = (path: string): string =>
  readFileSync(join(import.meta.dir, "../golden", path), "utf8");
