import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  createPemFolder,
  makeNodeCertificate,
  type NodeCertificate,
} from "../../../../test/contract/node-certificates.ts";
import { SpireError } from "../../../core/errors.ts";
import { encodeChallenge, newChallenge } from "./messages.ts";
import { type CredentialFiles, createX509popProver, readCredential } from "./prove.ts";

const folder = createPemFolder();
afterAll(() => folder.remove());

let node: NodeCertificate;
let files: CredentialFiles;
beforeAll(async () => {
  node = await makeNodeCertificate();
  files = {
    certificatePath: folder.write("node.pem", node.pem),
    privateKeyPath: folder.write("node.key", node.keyPem),
  };
});

const failureOf = async (work: () => Promise<unknown>): Promise<string> => {
  try {
    await work();
    return "none";
  } catch (error) {
    return `${SpireError.from(error).code}: ${SpireError.from(error).message}`;
  }
};

describe("a credential", () => {
  test("is a certificate with what follows it, its key, and intermediates", async () => {
    const more = await makeNodeCertificate({ ca: true });
    const certificatePath = folder.write("chain.pem", node.pem, more.pem);
    const intermediatesPath = folder.write("intermediates.pem", more.pem, more.pem);
    const { chain } = await readCredential({ ...files, certificatePath, intermediatesPath });
    expect(chain).toEqual([node.der, more.der, more.der, more.der]);
  });

  test("may be one file, and its key in any PEM form", async () => {
    const path = folder.write("all.pem", node.keyPem, node.pem);
    expect((await readCredential({ certificatePath: path, privateKeyPath: path })).chain).toEqual([node.der]);
    const rsa = await makeNodeCertificate({ key: "rsa-2048" });
    const forms: readonly [NodeCertificate, "sec1" | "pkcs1"][] = [
      [node, "sec1"],
      [rsa, "pkcs1"],
    ];
    for (const [of, type] of forms) {
      const parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
      const key = of.privateKey.export({ type, format: "pem" }).toString();
      const made = {
        certificatePath: folder.write("form.pem", of.pem),
        privateKeyPath: folder.write("form.key", parameters, key),
      };
      expect((await readCredential(made)).chain).toEqual([of.der]);
    }
  });

  test("that can't be used is refused with the file's name, and never with what is in it", async () => {
    const other = await makeNodeCertificate();
    const cases: readonly [Partial<CredentialFiles>, string][] = [
      [{ certificatePath: "/nowhere/node.pem" }, 'unable to load certificate "/nowhere/node.pem": ENOENT'],
      [{ privateKeyPath: "/nowhere/node.key" }, 'unable to load private key "/nowhere/node.key": ENOENT'],
      [
        { intermediatesPath: "/nowhere/ca.pem" },
        'unable to load intermediate certificates "/nowhere/ca.pem"',
      ],
      [{ certificatePath: files.privateKeyPath }, "no certificates found in file"],
      [{ privateKeyPath: files.certificatePath }, "is not an unencrypted private key in PEM"],
      [
        { privateKeyPath: folder.write("cut.key", node.keyPem.slice(0, -60)) },
        "is not an unencrypted private key",
      ],
      [{ privateKeyPath: folder.write("other.key", other.keyPem) }, "is not the key of certificate"],
    ];
    for (const [change, reason] of cases) {
      const failure = await failureOf(() => readCredential({ ...files, ...change }));
      expect(failure).toStartWith("FAILED_PRECONDITION: x509pop: ");
      expect(failure).toContain(reason);
      expect(failure).not.toContain("MIG");
    }
  });
});

describe("a prover", () => {
  test("loads its credential at each attestation", async () => {
    const chains = [Uint8Array.of(1), Uint8Array.of(2)];
    const prover = createX509popProver(async () => ({
      chain: [chains.shift() ?? new Uint8Array()],
      privateKey: node.privateKey,
    }));
    const payload = async () => {
      const { value } = await prover.prove(new AbortController().signal).next();
      return Buffer.from(value ?? []).toString();
    };
    expect(await payload()).toBe('{"certificates":["AQ=="]}');
    expect(await payload()).toBe('{"certificates":["Ag=="]}');
  });

  test("signs nothing but a nonce of the right size, for a key of its own kind", async () => {
    const prover = createX509popProver(() => readCredential(files));
    const answer = async (challenge: Uint8Array | string) => {
      const proof = prover.prove(new AbortController().signal);
      await proof.next();
      return failureOf(() => proof.next(Buffer.from(challenge)));
    };
    const ecdsa = newChallenge("ecdsa");
    expect(await answer(encodeChallenge(ecdsa))).toBe("none");
    const short = encodeChallenge({ ...ecdsa, nonce: ecdsa.nonce.subarray(1) });
    expect(await answer(short)).toBe("INVALID_ARGUMENT: invalid challenge nonce");
    expect(await answer(encodeChallenge(newChallenge("rsa")))).toBe(
      "INVALID_ARGUMENT: expecting ECDSA challenge",
    );
    expect(await answer("{")).toBe("INVALID_ARGUMENT: unable to unmarshal challenge: invalid JSON");
  });
});
