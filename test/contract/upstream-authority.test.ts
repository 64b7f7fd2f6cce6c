import { unixSeconds } from "../../src/core/clock.ts";
import { nullLogger } from "../../src/core/log.ts";
import { emptyBundle, mergeBundles } from "../../src/core/trust-bundle.ts";
import { createDiskUpstream } from "../../src/plugins/upstream-authorities/disk.ts";
import { createSpireUpstream } from "../../src/plugins/upstream-authorities/spire.ts";
import { createAuthorityFixture, trustDomain } from "../server/authority-fixture.ts";
import { createCaFiles, makeIntermediate, makeRoot } from "../upstream/ca-files.ts";
import { createUpperServer } from "../upstream/upper-server.ts";
import { upstreamAuthorityContract } from "./upstream-authority.ts";

upstreamAuthorityContract("disk", { publishesKeys: false, tellsOfChanges: false }, async () => {
  const fixture = await createAuthorityFixture();
  const now = () => unixSeconds(fixture.clock);
  const files = createCaFiles();
  const root = await makeRoot(now());
  const chain = [await makeIntermediate(root, now())];
  let bundle = [root];
  files.write({ chain, bundle });
  const { clock } = fixture;
  return {
    upstream: await createDiskUpstream({ ...files, trustDomain, clock, log: nullLogger }),
    now,
    async addRoot() {
      const added = await makeRoot(now());
      bundle = [...bundle, added];
      files.write({ chain, bundle });
      return added.der;
    },
    async close() {
      files[Symbol.dispose]();
      await fixture.close();
    },
  };
});

upstreamAuthorityContract("spire", { publishesKeys: true, tellsOfChanges: true }, async () => {
  const upper = await createUpperServer();
  const { clock } = upper.fixture;
  return {
    upstream: createSpireUpstream({ server: upper.server, clock }),
    now: () => unixSeconds(clock),
    async addRoot() {
      const { der } = await makeRoot(unixSeconds(clock));
      const added = { ...emptyBundle(trustDomain), x509Authorities: [{ der, tainted: false }] };
      await upper.changeBundle((bundle) => mergeBundles(bundle, added));
      await clock.advance(5_000);
      return der;
    },
    close: upper.close,
  };
});
