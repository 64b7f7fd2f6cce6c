/** openssl accepts chains that lead over servers and files above a server, by the strict rules of X.509. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../scripts/run.ts";
import { formatPemBundle } from "../../src/core/trust-bundle.ts";
import { formatPemCertificates } from "../../src/core/x509/certificate.ts";
import { idMessage } from "../server/running.ts";
import { createCaFiles, keyKinds, makeIntermediate, makeRoot } from "../upstream/ca-files.ts";
import { below, type HeldSvid, startLevel, svidWhen } from "../upstream/nested.ts";
import { temporaryFolder } from "./folders.ts";

const longMs = 60_000;

async function verify({ chain, bundle }: HeldSvid): Promise<string> {
  await using folder = await temporaryFolder();
  const [authorities, certificates] = [join(folder.path, "bundle.pem"), join(folder.path, "svid.pem")];
  await Bun.write(authorities, formatPemBundle(bundle));
  await Bun.write(certificates, formatPemCertificates(chain));
  const command = ["openssl", "verify", "-x509_strict", "-CAfile", authorities, "-untrusted", certificates];
  return (await run([...command, certificates])).replace(`${certificates}: `, "");
}

test(
  "three levels of servers",
  async () => {
    const downstream = { spiffeId: idMessage("/nested"), downstream: true };
    await using root = await startLevel();
    await using middle = await startLevel({ settings: below(root, await root.agentFor(downstream)) });
    await using bottom = await startLevel({ settings: below(middle, await middle.agentFor(downstream)) });
    for (const [depth, level] of [root, middle, bottom].entries()) {
      const svid = await svidWhen(await level.agentFor({ spiffeId: idMessage("/web") }));
      expect(svid.chain).toHaveLength(depth + 1);
      expect(await verify(svid)).toBe("OK\n");
    }
  },
  longMs,
);

test.each(Object.entries(keyKinds))(
  "files with two intermediates and a key of kind %s",
  async (_, makeKey) => {
    using files = createCaFiles();
    const now = Math.floor(Date.now() / 1000);
    const root = await makeRoot(now);
    const upper = await makeIntermediate(root, now, { name: "upper" });
    const lower = await makeIntermediate(upper, now, { name: "lower", key: makeKey() });
    files.write({ chain: [lower, upper], bundle: [root] });
    const { certFilePath, keyFilePath, bundleFilePath } = files;
    const upstreamAuthority = { type: "disk", certFilePath, keyFilePath, bundleFilePath } as const;
    const credentialComposers = [{ type: "uniqueid" }] as const;
    await using level = await startLevel({ settings: { upstreamAuthority, credentialComposers } });
    const svid = await svidWhen(await level.agentFor({ spiffeId: idMessage("/web") }));
    expect(svid.chain).toHaveLength(4);
    expect(await verify(svid)).toBe("OK\n");
  },
  longMs,
);
