/** Configuration files whose verdict differs from stock SPIRE's on purpose, by the benefit to users. */

interface Difference {
  /** The benefit. */
  readonly why: string;
  /** The files, by what they were recorded as. */
  readonly files: readonly string[];
}

/** SPIRE finds them valid: they never work, or not as they are meant. */
export const refusedHere: readonly Difference[] = [
  {
    why: "a lifetime below zero makes certificates that have ended at once, or breaks rotation",
    files: [
      'agent_ttl="-1h"',
      'default_x509_svid_ttl="-1s"',
      'default_jwt_svid_ttl="-1s"',
      'ca_ttl="-1h"',
      'prune_attested_nodes_expired_for="-1h"',
      'fed bundle_endpoint { port=1 refresh_hint="-5m" }',
    ],
  },
  {
    why: "a lifetime below a second is none: certificates count in seconds",
    files: ['agent_ttl="1µs"', 'agent_ttl="1us"', 'agent_ttl="1ns"', 'default_x509_svid_ttl="1ms"'],
  },
  {
    why: "no SPIFFE ID of such a trust domain is valid: the standard's limit is 255 bytes",
    files: ['trust_domain="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa #2'],
  },
  {
    why: "a server can't listen there: `run` would fail, or go on without the listener",
    files: [
      "fed bundle_endpoint { port=70000 }",
      "fed bundle_endpoint { port=-1 }",
      'top:telemetry Prometheus { host="127.0.0.1" port=-1 }',
      "top:telemetry Prometheus { port=70000 }",
      'top:health listener_enabled=true bind_port="x"',
      'top:health listener_enabled=true bind_port="70000"',
      "top:health listener_enabled=true bind_port=-1",
      'top:health listener_enabled=true bind_port="http"',
    ],
  },
  {
    why: "`run` refuses them, so they are not valid",
    files: [
      "top:telemetry Prometheus { port=1 tls {} }",
      'top:telemetry Prometheus { port=1 tls { cert_file="a" } }',
      'top:telemetry Prometheus { port=1 tls { use_spire_svid=true authorized_spiffe_ids=["x"] } }',
      'top:telemetry Prometheus { port=1 tls { use_spire_svid=true cert_file="a" } }',
      "top:telemetry Prometheus { port=1 tls { foo=1 } }",
      "plugin:name upper",
      'plugin:DS database_type="SQLITE3" connection_string="x"',
    ],
  },
  {
    why: "the bundle would never be fetched, or the endpoint never get a certificate",
    files: [
      'fed bundle_endpoint { port=1 acme { domain_name="d" email="e" directory_url="http://x" } }',
      'fed bundle_endpoint { port=1 profile "https_web" { acme { email="e" } } }',
      'fed federates_with "a.org" { bundle_endpoint_url="https://" bundle_endpoint_profile "https_web" {} }',
      'fed federates_with "a.org" { bundle_endpoint_url="https://a b" bundle_endpoint_profile "https_web" {',
    ],
  },
  {
    why: "metrics would go nowhere",
    files: ['top:telemetry DogStatsd = [{address="x"}]', "top:telemetry DogStatsd = [{}]"],
  },
  {
    why: "the server above would never be reached",
    files: [
      'plugin:UpstreamAuthority "spire" { plugin_data { server_address="a" server_port="abc" workload_api_s',
    ],
  },
  {
    why: "a text that is no JSON has been damaged",
    files: ["json:trailing comma", "json:unterminated"],
  },
];

/** SPIRE finds them wrong. */
export const acceptedHere: readonly Difference[] = [
  { why: "editors put a byte order mark before a text", files: ["bom", "json:bom"] },
  { why: "a second section `plugins` counts; SPIRE takes no notice of it", files: ["plugin:plugins twice"] },
  {
    why: "plugins that don't run here yet: `validate` says so, and tells less of their options",
    files: [
      "plugin:plugin_cmd noargs",
      'plugin:NodeAttestor "sshpop" { plugin_data { cert_authorities=["x"] } }',
    ],
  },
];

/** Both find them wrong, for the same reason or for the first one of several. */
export const saidOtherwise: readonly Difference[] = [
  {
    why: "the first damaged place is named, not the last",
    files: ["string with newline", "nul in string", "brace", "env newline"],
  },
  {
    why: "the place is named in JSON, too; HashiCorp's reader doesn't know it there",
    files: [
      "json:port float",
      "json:td bool",
      "json:admin ids str",
      "json:audit str",
      "json:nested empty",
      "json:experimental null",
      "json:float exp",
    ],
  },
  {
    why: "the place is that in the file; SPIRE counts lines within the plugin's options",
    files: [
      'plugin:KM "disk" { plugin_data { keys_path=["a"] } }',
      'plugin:DS database_type=["sqlite3"] connection_string="a"',
      'plugin:DS database_type="sqlite3" connection_string="x" disable_migration="x"',
    ],
  },
  {
    why: "the place and what belongs there are named",
    files: [
      'fed bundle_endpoint { port=1 profile = "https_spiffe" }',
      "fed bundle_endpoint { port=1 profile {} }",
      'fed federates_with "a.org" { bundle_endpoint_url="https://a" bundle_endpoint_profile = "https_web" }',
    ],
  },
  {
    why: "file_sync_interval may be left out; what else is missing is named",
    files: [
      'fed bundle_endpoint { port=1 profile "https_web" { serving_cert_file {} } }',
      'fed bundle_endpoint { port=1 profile "https_web" { serving_cert_file { cert_file_path="nope" key_fil',
    ],
  },
  {
    why: "what follows from the first problem is not listed besides",
    files: [
      "plugin:plugin_data_file missing",
      "plugin:plugin_data_file empty name",
      'plugin:NodeAttestor "sshpop" {}',
      'plugin:NodeAttestor "tpm_devid" {}',
    ],
  },
];
