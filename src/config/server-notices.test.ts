import { describe, expect, test } from "bun:test";
import { serverNotices } from "./server-notices.ts";

const messagesOf = (...given: Parameters<typeof serverNotices>): readonly string[] =>
  serverNotices(...given).map(({ level, message }) => `${level} ${message.split(/[.,;]/)[0]}`);

test("a configuration without anything of note is passed over in silence", () => {
  expect(serverNotices({ experimental: { feature_flags: [], require_pq_kem: false } }, undefined)).toEqual(
    [],
  );
});

describe("SPIRE's lines", () => {
  const deprecated = { alert: true, alert_type: "deprecated_config" };

  test("of a bundle endpoint without a profile, and with a certificate in the former place", () => {
    const [plain] = serverNotices({ federation: { bundle_endpoint: {} } }, undefined);
    expect(plain).toMatchObject({ level: "warn", fields: deprecated });
    expect(plain?.message).toStartWith("Bundle endpoint is configured but has no profile set");
    const [acme, terms] = serverNotices({ federation: { bundle_endpoint: { acme: {} } } }, undefined);
    expect(acme?.message).toStartWith("ACME configuration within the bundle_endpoint is deprecated");
    expect(terms?.fields).toEqual({ subsystem_name: "bundle_acme" });
    const accepted = { profile: { https_web: { acme: { tos_accepted: true } } } };
    expect(serverNotices({ federation: { bundle_endpoint: accepted } }, 300)).toEqual([]);
  });

  test("of a refresh hint that is too long or too short", () => {
    const endpoint = { federation: { bundle_endpoint: { profile: { https_spiffe: {} } } } };
    expect(messagesOf(endpoint, 86_400)).toEqual(["warn Bundle endpoint refresh hint set to a high value"]);
    expect(messagesOf(endpoint, 59)).toEqual(["warn Bundle endpoint refresh hint set too low"]);
    expect(messagesOf(endpoint, 60)).toEqual([]);
  });

  test("of an empty subject, of JWT-SVIDs that are off, of experiments", () => {
    expect(
      messagesOf(
        {
          ca_subject: {},
          disable_jwt_svids: true,
          experimental: { sql_transaction_timeout: "1m" },
        },
        undefined,
      ),
    ).toEqual([
      "warn ca_subject configurable is set but empty",
      "info JWT-SVID profile is disabled",
      "warn Experimental features have been enabled",
      "warn experimental",
    ]);
    expect(messagesOf({ ca_subject: { country: ["DE"] } }, undefined)).toEqual([]);
  });
});
