/** A node in the place of the recorded one, whose key nobody has: the same calls with its certificate and its proofs. */
import { hash } from "node:crypto";
import type { NodeAttestorConfig } from "../../src/config/server-config.ts";
import {
  answerChallenge,
  decodeChallenge,
  encodePayload,
} from "../../src/plugins/node-attestors/x509pop/messages.ts";
import { createPemFolder, makeNodeCertificate, type NodeCertificate } from "../contract/node-certificates.ts";
import type { NextRequest, RecordedCall } from "./golden-calls.ts";

export interface GoldenNode {
  readonly attestor: NodeAttestorConfig;
  /** Path of its agent's ID. */
  readonly agentPath: string;
  /** With which it begins to attest. */
  readonly payload: Uint8Array;
  /** The call as this node makes it; other calls stay as they are. */
  rebuild(call: RecordedCall): RecordedCall;
  remove(): void;
}

/** Agent path and payload of the recorded node. */
const recordedPath = "/spire/agent/x509pop/46f92aa5039c77a0628588d2a36d8d0bc9574fea";
const isRecordedPayload = (payload: string): boolean =>
  /^\{"certificates":\["MIIBgTCCASagAwIBAgIUfE0BD4kMqC7Rxy6ZH4js/.test(payload);

export async function createGoldenNode(): Promise<GoldenNode> {
  const folder = createPemFolder();
  const ca = await makeNodeCertificate({ ca: true });
  const leaf = await makeNodeCertificate({ issuer: ca });
  const stranger = await makeNodeCertificate({ subject: "CN=stranger" });
  const ownPayload = encodePayload([leaf.der]);
  const payload = Buffer.from(ownPayload).toString("base64");
  const agentPath = `/spire/agent/x509pop/${hash("sha1", leaf.der)}`;
  return {
    attestor: {
      type: "x509pop",
      trust: { mode: "external_pki", caBundlePaths: [folder.write("ca.pem", ca.pem)] },
      maxIntermediates: 4,
      maxRsaKeySize: 8192,
      verifyClientIp: false,
    },
    agentPath,
    payload: ownPayload,
    rebuild(call) {
      const texts = JSON.stringify(call.request, (key, value: unknown) =>
        key === "payload" && typeof value === "string" && isRecordedPayload(decode(value)) ? payload : value,
      );
      const request = JSON.parse(texts.replaceAll(recordedPath, agentPath));
      if (!Array.isArray(request) || request.length < 2) return { ...call, request };
      return { ...call, request, next: answerBy(call.name === "x509pop-wrong-key" ? stranger : leaf) };
    },
    remove: () => folder.remove(),
  };
}

const decode = (base64: string): string => Buffer.from(base64, "base64").toString();

/** Answers are made anew; what was recorded instead of one is sent as it is. */
function answerBy({ privateKey }: NodeCertificate): NextRequest {
  return (recorded, response) => {
    const answer: unknown = Object(recorded).challengeResponse;
    if (typeof answer !== "string" || !decode(answer).includes('"nonce"')) return recorded;
    const challenge = decodeChallenge(Buffer.from(Object(response).challenge, "base64"), "ecdsa");
    return { challengeResponse: Buffer.from(answerChallenge(privateKey, challenge)).toString("base64") };
  };
}
