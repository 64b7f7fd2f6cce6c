import {
  createJoinTokenProver,
  createJoinTokenVerifier,
} from "../../src/plugins/node-attestors/join-token.ts";
import { contextWithTokens, nodeAttestorContract } from "./node-attestor.ts";

const token = "83647212-8bdd-4086-941e-3386d486d0f2";

nodeAttestorContract({
  name: "join_token",
  async create() {
    return {
      prover: createJoinTokenProver({ token }),
      verifier: createJoinTokenVerifier(),
      context: contextWithTokens(token),
    };
  },
});
