import { describe, expect, test } from "bun:test";
import { attestInMemory, contextWithTokens } from "../../../test/contract/node-attestor.ts";
import { createJoinTokenProver, createJoinTokenVerifier } from "./join-token.ts";

const token = "83647212-8bdd-4086-941e-3386d486d0f2";

describe("a join token", () => {
  test("is itself the payload, as stock servers expect", async () => {
    const { value } = await createJoinTokenProver({ token }).prove(new AbortController().signal).next();
    expect(Buffer.from(value ?? []).toString()).toBe(token);
  });

  test("names the agent and lets it attest once", async () => {
    const context = contextWithTokens(token);
    const attest = () => attestInMemory(createJoinTokenProver({ token }), createJoinTokenVerifier(), context);
    expect(await attest()).toMatchObject({
      agentId: `spiffe://example.org/spire/agent/join_token/${token}`,
      selectors: [],
      canReattest: false,
    });
    await expect(attest()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("that can't be part of an ID is refused before it is used up", async () => {
    const context = contextWithTokens("../admin");
    const prover = createJoinTokenProver({ token: "../admin" });
    await expect(attestInMemory(prover, createJoinTokenVerifier(), context)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(context.redeemToken("../admin")).resolves.toBeUndefined();
  });
});
