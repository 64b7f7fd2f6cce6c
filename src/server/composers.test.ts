import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  trustDomain,
} from "../../test/server/authority-fixture.ts";
import { exportPublicKeyInfo, generateKey } from "../core/keys.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { encodeName, formatSubject } from "../core/x509/name.ts";
import type { CredentialComposer } from "../plugins/credential-composers/index.ts";
import { uniqueId } from "../plugins/credential-composers/uniqueid.ts";

let fixture: AuthorityFixture;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
});
afterEach(() => fixture.close());

const web = makeSpiffeId(trustDomain, "/web");
const uniqueIdentifier = "2.5.4.45=#1320";

async function open(...composers: readonly CredentialComposer[]) {
  const authority = await fixture.open({ composers });
  await authority.recover();
  const publicKeyInfo = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
  const subjectOf = async (signing: Promise<{ readonly der: Uint8Array }>) =>
    formatSubject(parseCertificate((await signing).der).subjectDer);
  return { authority, publicKeyInfo, subjectOf };
}

test("uniqueid adds its attribute to workloads, minted ones too, and to nobody else", async () => {
  const { authority, publicKeyInfo, subjectOf } = await open(uniqueId);
  const workload = { spiffeId: web, publicKeyInfo, dnsNames: ["web.test"], ttlSeconds: 0 };
  const subjectDer = encodeName({ organization: ["Acme"] });
  expect(await subjectOf(authority.signWorkloadSvid(workload))).toContain(
    `CN=web.test,O=SPIRE,C=US,${uniqueIdentifier}`,
  );
  expect(await subjectOf(authority.signWorkloadSvid({ ...workload, subjectDer }))).toContain(
    `CN=web.test,O=Acme,${uniqueIdentifier}`,
  );
  const agent = makeSpiffeId(trustDomain, "/spire/agent/a");
  expect(await subjectOf(authority.signAgentSvid(agent, publicKeyInfo))).toBe("O=SPIRE,C=US");
  expect(await subjectOf(authority.signServerSvid(publicKeyInfo))).toBe("O=SPIRE,C=US");
  expect(await subjectOf(authority.signDownstreamCa(publicKeyInfo, 0))).not.toContain("2.5.4.45");
});

test("composers are asked in their order, each with what the one before made of it", async () => {
  const adding = (name: string): CredentialComposer => ({
    composeWorkloadX509Svid: (_, { subject, dnsNames }) => ({
      subject: { ...subject, commonName: [[...(subject.commonName ?? []), name].join("-")] },
      dnsNames: [...dnsNames, `${name}.test`],
    }),
  });
  const { authority, publicKeyInfo, subjectOf } = await open(adding("a"), {}, adding("b"));
  const signing = authority.signWorkloadSvid({ spiffeId: web, publicKeyInfo, dnsNames: [], ttlSeconds: 0 });
  expect(await subjectOf(signing)).toBe("CN=a-b,O=SPIRE,C=US");
  expect(parseCertificate((await signing).der).dnsNames).toEqual(["a.test", "b.test"]);
});
