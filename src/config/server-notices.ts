/** What SPIRE's server says in its log about a configuration that holds, in its words: monitoring looks for them. */
import type { RawServerFile } from "./server-schema.ts";

/** One line of the log. */
export interface Notice {
  readonly level: "info" | "warn";
  readonly message: string;
  readonly fields?: Readonly<Record<string, string | boolean>>;
}

type Raw = NonNullable<RawServerFile["server"]>;

const deprecated = { alert: true, alert_type: "deprecated_config" } as const;

const warn = (message: string): Notice => ({ level: "warn", message });

const daySeconds = 86_400;

/** In the order in which SPIRE finds out. @param refreshHintSeconds of the bundle endpoint, undefined = not given. */
export function serverNotices(server: Raw, refreshHintSeconds: number | undefined): readonly Notice[] {
  return [
    ...endpointNotices(server.federation?.bundle_endpoint, refreshHintSeconds),
    ...(isEmptySubject(server.ca_subject)
      ? [warn("ca_subject configurable is set but empty; the default will be used")]
      : []),
    ...(server.disable_jwt_svids
      ? [{ level: "info", message: "JWT-SVID profile is disabled" } as const]
      : []),
    ...experimentalNotices(server.experimental),
  ];
}

function endpointNotices(
  endpoint: NonNullable<Raw["federation"]>["bundle_endpoint"],
  refreshHintSeconds: number | undefined,
): readonly Notice[] {
  if (!endpoint) return [];
  const notices: Notice[] = [];
  if (refreshHintSeconds !== undefined && refreshHintSeconds >= daySeconds) {
    notices.push(
      warn(
        "Bundle endpoint refresh hint set to a high value. To cover the case of unscheduled trust bundle updates, it's recommended to have a smaller value, e.g. 5m",
      ),
    );
  }
  if (refreshHintSeconds !== undefined && refreshHintSeconds < 60) {
    notices.push(
      warn("Bundle endpoint refresh hint set too low. SPIRE will not refresh more often than 1 minute"),
    );
  }
  if (endpoint.acme) {
    const message =
      "ACME configuration within the bundle_endpoint is deprecated. Please use ACME configuration as part of the https_web profile instead.";
    notices.push({ level: "warn", message, fields: deprecated });
  } else if (!endpoint.profile) {
    const message =
      "Bundle endpoint is configured but has no profile set, using https_spiffe as default; please configure a profile explicitly. This will be fatal in a future release.";
    notices.push({ level: "warn", message, fields: deprecated });
  }
  const acme = endpoint.acme ?? endpoint.profile?.https_web?.acme;
  if (acme && !acme.tos_accepted) {
    const message = "ACME Terms of Service have not been accepted. See the `tos_accepted` configurable";
    notices.push({ level: "warn", message, fields: { subsystem_name: "bundle_acme" } });
  }
  return notices;
}

const isEmptySubject = (subject: Raw["ca_subject"]): boolean =>
  subject !== undefined && !subject.country?.length && !subject.organization?.length && !subject.common_name;

function experimentalNotices(experimental: Raw["experimental"] = {}): readonly Notice[] {
  const notices: Notice[] = [];
  if (Object.values(experimental).some(isSet)) {
    notices.push(
      warn(
        "Experimental features have been enabled. Please see doc/upgrading.md for upgrade and compatibility considerations for experimental features.",
      ),
    );
  }
  if (experimental.sql_transaction_timeout) {
    const message =
      "experimental.sql_transaction_timeout is deprecated, use experimental.event_timeout instead";
    notices.push({ level: "warn", message, fields: deprecated });
  }
  return notices;
}

const isSet = (value: unknown): boolean =>
  value !== undefined && value !== "" && value !== false && !(Array.isArray(value) && value.length === 0);
