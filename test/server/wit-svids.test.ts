/** WIT-SVIDs over the wire and by `wit mint`, where the configuration has the feature flag and where it has not. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { runProgram } from "../../src/cli/command.ts";
import { programNamed } from "../../src/cli/process.ts";
import { verifyWitSvid } from "../../src/core/wit-svid.ts";
import { programs } from "../../src/main.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import { failureOf } from "./failure.ts";
import { entryMessage, idMessage, startTestServer, type TestAgent, type TestServer } from "./running.ts";

const publicKeyOf = (namedCurve: string) =>
  generateKeyPairSync("ec", { namedCurve }).publicKey.export({ type: "spki", format: "der" });
const p256 = publicKeyOf("P-256");

const mintRequest = (fields: object = {}) => ({
  id: idMessage("/web"),
  publicKey: p256,
  signingAlgorithm: "ES256",
  ttl: 0,
  ...fields,
});

interface Printed {
  readonly out: string;
  readonly err: string;
  readonly exitCode: number;
}

async function spireServer(
  { settings }: TestServer,
  args: readonly string[],
  flags = "other wit-svid",
): Promise<Printed> {
  const output = { out: "", err: "" };
  const exitCode = await runProgram(programNamed(programs, "spire-server"), args, {
    out(text) {
      output.out += text;
    },
    err(text) {
      output.err += text;
    },
    readInput: async () => "",
    untilStopped: () => new Promise(() => {}),
    env: { SPIRE_SERVER_PRIVATE_SOCKET: settings.socketPath, SPIRE_SERVER_FFLAGS: flags },
  });
  return { ...output, exitCode };
}

const outcomeOf = async (call: Promise<unknown>) => {
  const { code, message } = await failureOf(call);
  return [code, message];
};

/** SPIRE answers these alike whether it issues WIT-SVIDs or not. */
async function expectUnimplemented({ local }: TestServer): Promise<void> {
  const api = local.client(LocalAuthorityService);
  const answer = ["UNIMPLEMENTED", "WIT-SVID functionality is not yet implemented"];
  const authorityId = "x";
  for (const call of [
    api.getWitAuthorityState({}),
    api.prepareWitAuthority({}),
    api.activateWitAuthority({ authorityId }),
    api.taintWitAuthority({ authorityId }),
    api.revokeWitAuthority({ authorityId }),
  ]) {
    expect(await outcomeOf(call)).toEqual(answer);
  }
}

describe("a server that issues WIT-SVIDs", () => {
  let running: TestServer;
  let agent: TestAgent;
  beforeAll(async () => {
    running = await startTestServer({ wit: { keyType: "ec-p256", issuer: "https://issuer.example" } });
    agent = await running.attest();
  });
  afterAll(() => running.close());

  const now = () => Math.floor(running.clock.now() / 1000);
  const verify = (token: string) =>
    verifyWitSvid(
      token,
      (_, keyId) => running.server.bundle().witAuthorities.find((authority) => authority.keyId === keyId),
      now(),
    );

  async function createEntry(path: string, x509SvidTtl: number): Promise<string> {
    const parentId = idMessage(agent.id.slice("spiffe://example.org".length));
    const entries = [entryMessage({ parentId, spiffeId: idMessage(path), x509SvidTtl })];
    const { results } = await running.local
      .client(EntryService)
      .batchCreateEntry({ entries, outputMask: undefined });
    return results[0]?.entry?.id ?? "";
  }

  test("publishes their authority in its bundle", async () => {
    const { witAuthorities } = await agent.channel.client(BundleService).getBundle({ outputMask: undefined });
    expect(witAuthorities).toHaveLength(1);
  });

  test("mints one for an administrator's key", async () => {
    const { svid } = await running.local.client(SVIDService).mintWitsvid(mintRequest({ ttl: 600 }));
    expect(svid).toMatchObject({ id: idMessage("/web"), hint: "" });
    expect((svid?.expiresAt ?? 0) - (svid?.issuedAt ?? 0)).toBe(600);
    const { spiffeId, claims, confirmation } = verify(svid?.token ?? "");
    expect(spiffeId).toBe(running.idOf("/web"));
    expect(claims).toMatchObject({ iss: "https://issuer.example", exp: svid?.expiresAt });
    expect(confirmation.publicKey.export({ type: "spki", format: "der" }).equals(p256)).toBe(true);
  });

  const refused: readonly (readonly [string, object, string])[] = [
    ["another trust domain", { id: { trustDomain: "other.org", path: "/w" } }, "invalid SPIFFE ID: "],
    ["SPIRE's own IDs", { id: idMessage("/spire/x") }, "invalid SPIFFE ID: "],
    ["no ID", { id: undefined }, "invalid SPIFFE ID: request must specify SPIFFE ID"],
    ["no key", { publicKey: Buffer.alloc(0) }, "invalid public key: "],
    [
      "an algorithm that isn't the key's",
      { signingAlgorithm: "RS256" },
      "invalid signing algorithm or key type: unsupported signing algorithm for ec-p256 key: RS256",
    ],
  ];
  test.each(refused)("refuses to mint for %s", async (_, fields, message) => {
    const failure = await failureOf(running.local.client(SVIDService).mintWitsvid(mintRequest(fields)));
    expect(failure.code).toBe("INVALID_ARGUMENT");
    expect(failure.message).toStartWith(message);
  });

  test("issues an agent those of its entries, each item with a status of its own", async () => {
    const [short, usual] = [await createEntry("/short", 120), await createEntry("/usual", 0)];
    const item = (entryId: string, publicKey = p256, signingAlgorithm = "ES256") => ({
      entryId,
      publicKey,
      signingAlgorithm,
    });
    const params = [
      item(short),
      item(""),
      item(usual, Buffer.alloc(0)),
      item("unknown"),
      item(usual, Buffer.from("x")),
      item(usual, publicKeyOf("P-384")),
      item(usual, publicKeyOf("P-384"), "ES384"),
    ];
    const { results } = await agent.channel.client(SVIDService).batchNewWitsvid({ params });
    expect(results.map(({ status }) => [status?.code, status?.message])).toEqual([
      [0, "OK"],
      [3, "missing entry ID"],
      [3, "missing public key"],
      [5, "entry not found or not authorized"],
      [3, "malformed public key: malformed or unsupported public key"],
      [3, "invalid signing algorithm or key type: unsupported signing algorithm for ec-p384 key: ES256"],
      [0, "OK"],
    ]);
    const lifetimes = results.map(({ svid }) => svid && svid.expiresAt - svid.issuedAt);
    expect(lifetimes).toEqual([120, undefined, undefined, undefined, undefined, undefined, 3600]);
    expect(verify(results[0]?.svid?.token ?? "").spiffeId).toBe(running.idOf("/short"));
    expect(verify(results[6]?.svid?.token ?? "").confirmation.algorithm).toBe("ES384");
  });

  test("wants an agent to ask for something", async () => {
    const call = agent.channel.client(SVIDService).batchNewWitsvid({ params: [] });
    expect(await outcomeOf(call)).toEqual(["INVALID_ARGUMENT", "missing parameters"]);
  });

  test("has no methods for their authorities, as SPIRE has none", () => expectUnimplemented(running));

  describe("`wit mint`", () => {
    const mint = (...args: readonly string[]) =>
      spireServer(running, ["wit", "mint", "-spiffeID", "spiffe://example.org/web", ...args]);

    test("prints token and private key", async () => {
      const { out, err, exitCode } = await mint();
      expect([err, exitCode]).toEqual(["", 0]);
      const [token = "", key = "", ...rest] = out.split("\n");
      expect(rest).toEqual([""]);
      expect(Object.keys(JSON.parse(key))).toEqual(["kty", "crv", "x", "y", "d"]);
      const privateKey = createPrivateKey({ key: JSON.parse(key), format: "jwk" });
      expect(verify(token).confirmation.publicKey.equals(createPublicKey(privateKey))).toBe(true);
    });

    test("prints them as SPIRE's JSON", async () => {
      const { out } = await mint("-keyType", "rsa-2048", "-signingAlgorithm", "PS256", "-output", "json");
      const { private_key, svid, ...rest } = JSON.parse(out);
      expect(rest).toEqual({});
      expect(Object.keys(svid)).toEqual(["token", "id", "expires_at", "issued_at"]);
      expect(svid).toMatchObject({ id: { trust_domain: "example.org", path: "/web" } });
      expect(svid.expires_at - svid.issued_at).toBe(3600);
      expect(Object.keys(JSON.parse(private_key))).toEqual([
        "kty",
        "n",
        "e",
        "d",
        "p",
        "q",
        "dp",
        "dq",
        "qi",
      ]);
      expect(verify(svid.token).confirmation.algorithm).toBe("PS256");
    });

    test("writes them to files for nobody else", async () => {
      const directory = join(running.settings.dataDir, "wit");
      mkdirSync(directory);
      const { out } = await mint("-ttl", "10m", "-write", directory);
      expect(out).toBe(`WIT-SVID written to ${directory}/token\nPrivate key written to ${directory}/key\n`);
      for (const name of ["token", "key"]) expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
      expect(verify(readFileSync(join(directory, "token"), "utf8")).spiffeId).toBe(running.idOf("/web"));
    });

    test("tells of a lifetime that was cut", async () => {
      const { err, exitCode } = await mint("-ttl", "48h");
      expect(err).toMatch(/^WIT-SVID lifetime was capped shorter than specified ttl; expires "20.*Z"\n$/);
      expect(exitCode).toBe(0);
    });

    const mistakes: readonly (readonly [readonly string[], string])[] = [
      [["-spiffeID", ""], "spiffeID must be specified"],
      [["-spiffeID", "foo"], "scheme is missing or invalid"],
      [["-keyType", "rsa-2048"], "unsupported key type 'rsa-2048' for 'ES256' signing algorithm"],
      [["-signingAlgorithm", "RS256"], "unsupported key type 'ec-p256' for signing algorithm 'RS256'"],
      [["-signingAlgorithm", "FOO"], "unsupported signing algorithm: FOO"],
      [["-write", "no/such"], "unable to write token: open no/such/token: no such file or directory"],
      [
        ["-spiffeID", "spiffe://other.org/w"],
        'unable to mint SVID: rpc error: code = InvalidArgument desc = invalid SPIFFE ID: "spiffe://other.org/w" is not a member of trust domain "example.org"',
      ],
    ];
    test.each(mistakes)("%p: %s", async (args, message) => {
      expect(await mint(...args)).toEqual({ out: "", err: `Error: ${message}\n`, exitCode: 1 });
    });

    test("is there only in an environment with the flag", async () => {
      for (const flags of ["", "wit", "wit-svid,other"]) {
        const { err, exitCode } = await spireServer(running, ["wit", "mint"], flags);
        expect(exitCode).toBe(127);
        expect(err).not.toContain("    wit ");
      }
      expect((await spireServer(running, ["--help"])).err).toContain("    wit ");
      expect((await spireServer(running, ["wit"])).err).toContain("    mint  Mints a WIT-SVID\n");
    });
  });
});

describe("a server that doesn't", () => {
  let running: TestServer;
  beforeAll(async () => {
    running = await startTestServer();
  });
  afterAll(() => running.close());

  test("says so to administrators and agents, and publishes no authority", async () => {
    const disabled = ["UNIMPLEMENTED", "WIT functionality is disabled"];
    expect(await outcomeOf(running.local.client(SVIDService).mintWitsvid(mintRequest()))).toEqual(disabled);
    const { channel } = await running.attest();
    const params = [{ entryId: "e", publicKey: p256, signingAlgorithm: "ES256" }];
    expect(await outcomeOf(channel.client(SVIDService).batchNewWitsvid({ params }))).toEqual(disabled);
    expect(running.server.bundle().witAuthorities).toEqual([]);
    await expectUnimplemented(running);
  });

  test("`wit mint` passes that on", async () => {
    const printed = await spireServer(running, ["wit", "mint", "-spiffeID", "spiffe://example.org/w"]);
    expect(printed.err).toBe(
      "Error: unable to mint SVID: rpc error: code = Unimplemented desc = WIT functionality is disabled\n",
    );
  });
});
