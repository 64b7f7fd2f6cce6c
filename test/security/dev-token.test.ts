/** An agent's ID is no secret, so it must not be what the agent attests by. */
import { afterEach, expect, test } from "bun:test";
import { SpireError } from "../../src/core/errors.ts";
import { generateKey } from "../../src/core/keys.ts";
import { pathOf } from "../../src/core/spiffe-id.ts";
import { createAgentTokens } from "../../src/modes/dev/agent-id.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { attestWith, csrOf, startTestServer, type TestServer } from "../server/running.ts";

let running: TestServer | undefined;
afterEach(() => running?.close());

test("the dev agent comes back under its ID by a secret that the ID doesn't tell", async () => {
  const tokens = createAgentTokens();
  running = await startTestServer({ joinTokenName: tokens.nameOf });
  const { registry } = running.server;
  const id = running.idOf("/spire/agent/join_token/known-to-everybody");
  const client = running.anonymous.client(AgentService);
  const csr = await csrOf(await generateKey("ec-p256"));
  /** The agent's path, or why there is none. */
  const attest = (token: string): Promise<string | undefined> =>
    attestWith(client, token, csr).then(
      (svid) => svid.id?.path,
      (error: unknown) => SpireError.from(error).code,
    );

  const token = await tokens.create(id, registry);
  for (const guess of ["known-to-everybody", pathOf(id), id]) {
    expect(await attest(guess)).toBe("INVALID_ARGUMENT");
  }
  expect(await attest(token)).toBe("/spire/agent/join_token/known-to-everybody");
  expect(await attest(token)).toBe("INVALID_ARGUMENT");
  // Any other token names its agent as always.
  await registry.createJoinToken({ token: "plain", ttlSeconds: 60 });
  expect(await attest("plain")).toBe("/spire/agent/join_token/plain");
});
