/**
 * The recorded calls of a stock server, replayed in their order: codes, messages and statuses of items. What
 * differs on purpose is listed with its reason; a message that quotes Go's libraries is compared up to the quote.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  type CallReplayer,
  createCallReplayer,
  type Outcome,
  type RecordedCall,
  statusesOf,
} from "./golden-calls.ts";
import { differences } from "./golden-differences.ts";
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

let replayer: CallReplayer;
beforeAll(async () => {
  replayer = await createCallReplayer();
});

/** Texts of Go's libraries; what stands before them is SPIRE's own. */
const libraryText =
  /(asn1:|x509:|invalid character|unexpected end of JSON|go-jose|strconv|idna|datastore-sql: UNIQUE constraint|proto:).*$/s;

/** A message that a client's library made says nothing about the server. */
const clientText = (code: string): boolean => code === "UNAVAILABLE";

const upToQuote = (expected: string, actual: string): [string, string] => {
  const quote = libraryText.exec(expected);
  return quote ? [expected.slice(0, quote.index), actual.slice(0, quote.index)] : [expected, actual];
};

function compare(actual: Outcome, expected: Outcome): void {
  const [expectedMessage, message] = clientText(expected.code)
    ? ["", ""]
    : upToQuote(expected.message, actual.message);
  const pairs = expected.statuses.map((status, index) => {
    const answered = actual.statuses[index] ?? { code: -1, message: "" };
    const [wanted, given] = upToQuote(status.message, answered.message);
    return { wanted: { ...status, message: wanted }, given: { ...answered, message: given } };
  });
  expect({ code: actual.code, message, statuses: pairs.map(({ given }) => given) }).toEqual({
    code: expected.code,
    message: expectedMessage,
    statuses: pairs.map(({ wanted }) => wanted),
  });
  expect(actual.statuses).toHaveLength(expected.statuses.length);
}

const outcomeOf = ({ code, message, response }: RecordedCall): Outcome => ({
  code,
  message,
  statuses: statusesOf(response),
});

function replayFiles(start: () => Promise<Scene>, files: readonly string[]): void {
  let scene: Scene;
  beforeAll(async () => {
    scene = await start();
  });
  afterAll(() => scene.running.close());

  for (const file of files) {
    describe(file, () => {
      for (const call of recorded(file)) {
        const name = `${file}/${call.name}`;
        test(call.name, async () => {
          const sent = await scene.before(call);
          const channel = scene.callers.get(call.caller);
          if (!channel) throw new Error(`there is no caller "${call.caller}" here`);
          const answer = await replayer.replay(sent, channel);
          scene.after(call, answer);
          compare(answer, differences[name]?.outcome ?? outcomeOf(call));
        });
      }
    });
  }
}

describe("recorded calls: attestation", () => replayFiles(startAttestationScene, attestationFiles));

describe("recorded calls: the rest", () => replayFiles(startMainScene, otherFiles));

test("each known difference is one of a recorded call", () => {
  const names = [...attestationFiles, ...otherFiles].flatMap((file) =>
    recorded(file).map(({ name }) => `${file}/${name}`),
  );
  expect(Object.keys(differences).filter((name) => !names.includes(name))).toEqual([]);
});

describe("recorded calls: who may call what", () => {
  let scene: Scene;
  beforeAll(async () => {
    scene = await startMainScene();
    const { running, callers } = scene;
    callers.set("admin-ids-svid", running.dial(await running.mint(configuredAdmin)));
  });
  afterAll(() => scene.running.close());

  for (const row of readGolden("authz-matrix") as readonly RecordedMatrixRow[]) {
    const { service, method, request, results } = row;
    test(`${service}/${method}`, async () => {
      for (const [caller, result] of Object.entries(results)) {
        const channel = scene.callers.get(caller);
        if (!channel) throw new Error(`there is no caller "${caller}" here`);
        if (result === "skipped") continue;
        const { code, message } = await replayer.replay({ service, method, request }, channel);
        // No server implements health's List; the stock one says so in words of its own.
        const [wanted, given] = method === "List" ? ["", ""] : upToQuote(result.message, message);
        expect({ caller, code, message: given }).toEqual({ caller, code: result.code, message: wanted });
      }
    });
  }
});
