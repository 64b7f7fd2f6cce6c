import { afterAll } from "bun:test";
import { systemClock } from "../../src/core/clock.ts";
import { nullLogger } from "../../src/core/log.ts";
import {
  createJoinTokenProver,
  createJoinTokenVerifier,
} from "../../src/plugins/node-attestors/join-token.ts";
import { createX509popProver, readCredential } from "../../src/plugins/node-attestors/x509pop/prove.ts";
import { openX509popVerifier } from "../../src/plugins/node-attestors/x509pop/verify.ts";
import { contextWithTokens, nodeAttestorContract } from "./node-attestor.ts";
import { createPemFolder, makeNodeCertificate, type NodeKey } from "./node-certificates.ts";

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

const folder = createPemFolder();
afterAll(() => folder.remove());

const limits = { maxIntermediates: 4, maxRsaKeySize: 8192, verifyClientIp: false };
const deps = { clock: systemClock, log: nullLogger };

for (const key of ["ec-p256", "ec-p384", "ec-p521", "rsa-2048", "rsa-3072"] as const satisfies NodeKey[]) {
  nodeAttestorContract({
    name: "x509pop",
    variant: key,
    async create() {
      const root = await makeNodeCertificate({ ca: true });
      const intermediate = await makeNodeCertificate({ ca: 0, issuer: root, subject: "CN=pop intermediate" });
      const leaf = await makeNodeCertificate({ issuer: intermediate, key });
      const files = {
        certificatePath: folder.write("node.pem", leaf.pem),
        privateKeyPath: folder.write("node.key", leaf.keyPem),
        intermediatesPath: folder.write("intermediates.pem", intermediate.pem),
      };
      const trust = { mode: "external_pki", caBundlePaths: [folder.write("ca.pem", root.pem)] } as const;
      return {
        prover: createX509popProver(() => readCredential(files)),
        verifier: await openX509popVerifier({ trust, ...limits, ...deps }),
        context: contextWithTokens(),
      };
    },
  });
}

nodeAttestorContract({
  name: "x509pop",
  variant: "spiffe",
  async create() {
    const root = await makeNodeCertificate({ ca: true, subject: "O=SPIFFE" });
    const uris = ["spiffe://example.org/spire-exchange/rack-7/node1"];
    const leaf = await makeNodeCertificate({ issuer: root, uris });
    return {
      prover: createX509popProver(async () => ({ chain: [leaf.der], privateKey: leaf.privateKey })),
      verifier: await openX509popVerifier({
        trust: { mode: "spiffe", prefix: "/spire-exchange/" },
        ...limits,
        ...deps,
      }),
      context: {
        ...contextWithTokens(),
        ownBundle: () => ({ x509Authorities: [{ der: root.der, tainted: false }] }),
      },
    };
  },
});
