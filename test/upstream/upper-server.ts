/** A server above another one, without the network between: what its API does, by its parts. */
import { SpireError } from "../../src/core/errors.ts";
import { emptyBundle, mergeBundles, type TrustBundle } from "../../src/core/trust-bundle.ts";
import type { UpstreamServer } from "../../src/plugins/upstream-authorities/spire.ts";
import type { Authority } from "../../src/server/authority.ts";
import { openCertificateRequest } from "../../src/server/csr.ts";
import { type AuthorityFixture, createAuthorityFixture, trustDomain } from "../server/authority-fixture.ts";

export interface UpperServer {
  readonly server: UpstreamServer;
  readonly authority: Authority;
  readonly fixture: AuthorityFixture;
  bundle(): TrustBundle;
  changeBundle(change: (bundle: TrustBundle) => TrustBundle): Promise<void>;
  /** Each call fails, or does again. */
  setReachable(reachable: boolean): void;
  close(): Promise<void>;
}

const wording = { malformed: "malformed CSR", badSignature: "invalid CSR signature" };

/** With its first authorities in force. @param start unix seconds at which its clock begins. */
export async function createUpperServer(start?: number): Promise<UpperServer> {
  const fixture = await createAuthorityFixture(start);
  const authority = await fixture.open();
  await authority.recover();
  let isReachable = true;
  const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
  const changeBundle = async (change: (bundle: TrustBundle) => TrustBundle) => {
    await fixture.registry.mutateBundle(trustDomain, () => change(bundle()));
  };
  const reach = () => {
    if (!isReachable) throw new SpireError("UNAVAILABLE", "could not connect to upper:8081");
  };
  return {
    fixture,
    authority,
    bundle,
    changeBundle,
    setReachable(reachable) {
      isReachable = reachable;
    },
    server: {
      async newDownstreamCa(csr, preferredTtlSeconds) {
        reach();
        const { publicKeyInfo } = openCertificateRequest(csr, wording);
        return (await authority.signDownstreamCa(publicKeyInfo, preferredTtlSeconds)).chain;
      },
      async publishJwtKey(key) {
        reach();
        await changeBundle((current) =>
          mergeBundles(current, { ...emptyBundle(trustDomain), jwtAuthorities: [key] }),
        );
        return bundle().jwtAuthorities;
      },
      async bundle() {
        reach();
        return bundle();
      },
      async close() {},
    },
    close: fixture.close,
  };
}
