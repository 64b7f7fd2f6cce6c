/** Mistakes that people make in configuration files: the line at fault, and what they are told. */

export interface Mistake {
  readonly name: string;
  /** Takes the place of the good line that begins with the same word, or comes in addition, in the section. */
  readonly line?: string;
  /** Instead of the good file. */
  readonly file?: string;
  /** Replaces in the good file. */
  readonly replace?: readonly [good: string, bad: string];
  /** What the message says, and where. */
  readonly says: readonly string[];
}

export const goodServer = `server {
  trust_domain = "example.org"
  data_dir = "data"
  bind_address = "127.0.0.1"
  bind_port = 0
  socket_path = "api.sock"
}
plugins {
  DataStore "sql" { plugin_data {
    database_type = "sqlite3"
    connection_string = "data/db.sqlite3"
  } }
  KeyManager "disk" { plugin_data { keys_path = "data/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
`;

export const goodAgent = `agent {
  trust_domain = "example.org"
  data_dir = "data"
  server_address = "127.0.0.1"
  server_port = 1
  socket_path = "public/api.sock"
  insecure_bootstrap = true
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`;

const duration = (option: string, what: string): readonly Mistake[] => [
  {
    name: `${option} without a unit`,
    line: `${option} = "90"`,
    says: [what, 'time: missing unit in duration "90"', ":7:", "1h30m"],
  },
  {
    name: `${option} below zero`,
    line: `${option} = "-1h"`,
    says: [`${option} must not be negative`, "v.conf:7:"],
  },
];

const x509pop = (name: string, options: string, ...says: readonly string[]): Mistake => ({
  name: `x509pop ${name}`,
  replace: ['"join_token" { plugin_data {} }', `"x509pop" { plugin_data { ${options} } }`],
  says: [...says, "v.conf:"],
});

const spiffeMode = 'mode = "spiffe"';

const x509popMistakes: readonly Mistake[] = [
  x509pop("in an unknown mode", 'mode = "pki"', "mode can only be either spiffe or external_pki"),
  x509pop("without authorities", "", "one of ca_bundle_path or ca_bundle_paths must be configured"),
  x509pop("without any of several authorities", "ca_bundle_paths = []", "must be configured"),
  x509pop(
    "with authorities in two places",
    'ca_bundle_path = "a" ca_bundle_paths = ["b"]',
    "only one of ca_bundle_path or ca_bundle_paths can be configured, not both",
  ),
  x509pop(
    "with authorities that mode spiffe doesn't take",
    `${spiffeMode} ca_bundle_path = "a"`,
    "you can not use ca_bundle_path or ca_bundle_paths in spiffe mode",
  ),
  x509pop(
    "with a missing file of authorities",
    'ca_bundle_path = "ca.pem"',
    'unable to load trust bundle "ca.pem": open ca.pem: no such file or directory',
  ),
  x509pop(
    "with a file without authorities",
    'ca_bundle_paths = ["v.conf"]',
    'unable to load trust bundle "v.conf": no certificates found in file',
  ),
  x509pop(
    "with a template that isn't closed",
    `${spiffeMode} agent_path_template = "/{{ .PluginName"`,
    'failed to parse agent svid template: "/{{ .PluginName" (unclosed action)',
  ),
  x509pop(
    "with a template that calls what isn't there",
    `${spiffeMode} agent_path_template = "/{{ env 1 }}"`,
    'function "env" not defined',
  ),
  x509pop("without intermediates", `${spiffeMode} max_intermediates = 0`, "must be greater than 0"),
  x509pop("with no RSA keys", `${spiffeMode} max_rsa_key_size = -1`, "must be greater than 0"),
];

const issuance = (name: string, plugin: string, ...says: readonly string[]): Mistake => ({
  name,
  replace: ["plugins {", `plugins {\n  ${plugin}`],
  says,
});

const diskUpstream = (options: string): string => `UpstreamAuthority "disk" { plugin_data { ${options} } }`;
const spireUpstream = (options: string): string => `UpstreamAuthority "spire" { plugin_data { ${options} } }`;
const goodUpstream = 'server_address = "upper" server_port = "8081" workload_api_socket = "agent.sock"';

const issuanceMistakes: readonly Mistake[] = [
  issuance(
    "an upstream authority without a key",
    diskUpstream('cert_file_path = "ca.crt"'),
    "'cert_file_path' and 'key_file_path' must be set and not empty",
    "v.conf:9:",
  ),
  issuance(
    "an upstream authority whose key isn't there",
    diskUpstream('cert_file_path = "ca.crt" key_file_path = "ca.key"'),
    'failed to configure plugin "disk"',
    'unable to load upstream CA key: "ca.key"',
    "no such file",
  ),
  issuance(
    "a key of an upstream authority that is none",
    diskUpstream('cert_file_path = "ca.crt" key_file_path = "v.conf"'),
    'unable to load upstream CA key: "v.conf"',
    'there is no PEM block "PRIVATE KEY"',
  ),
  issuance(
    "an upstream server without an address",
    spireUpstream('server_port = "8081" workload_api_socket = "agent.sock"'),
    "server_address is required",
    "v.conf:9:",
  ),
  issuance(
    "an upstream server without a port",
    spireUpstream('server_address = "upper" workload_api_socket = "agent.sock"'),
    "server_port is required",
  ),
  issuance(
    "a port of an upstream server that is none",
    spireUpstream(goodUpstream.replace("8081", "https")),
    "server_port must be a port number, not https",
  ),
  issuance(
    "an upstream server without a Workload API",
    spireUpstream('server_address = "upper" server_port = "8081"'),
    "workload_api_socket is required",
  ),
  issuance(
    "a named pipe to an upstream server",
    spireUpstream(`${goodUpstream} experimental { workload_api_named_pipe_name = "x" }`),
    "workload_api_named_pipe_name is not supported on this platform",
  ),
  issuance(
    "post-quantum key exchange with an upstream server",
    spireUpstream(`${goodUpstream} experimental { require_pq_kem = true }`),
    "require_pq_kem is not supported yet",
    "v.conf:9:",
  ),
  issuance(
    "two upstream authorities",
    `${spireUpstream(goodUpstream)}\n  ${diskUpstream('cert_file_path = "a" key_file_path = "b"')}`,
    'plugin type "UpstreamAuthority" constraint not satisfied: expected at most 1 but got 2',
    "v.conf:10:",
  ),
  issuance(
    "a credential composer that isn't there",
    'CredentialComposer "uniqeid" { plugin_data {} }',
    'no built-in plugin "uniqeid" for type "CredentialComposer"',
    'did you mean "uniqueid"?',
  ),
];

const telemetry = (name: string, section: string, ...says: readonly string[]): Mistake => ({
  name,
  replace: ["plugins {", `telemetry { ${section} }\nplugins {`],
  says: [...says, "v.conf:8:"],
});

const prometheusTls = (options: string): string => `Prometheus { port = 0 tls { ${options} } }`;

const telemetryMistakes: readonly Mistake[] = [
  telemetry("a port for metrics that is none", "Prometheus { port = 70000 }", "port must be a port number"),
  telemetry(
    "a certificate for metrics without key",
    prometheusTls('cert_file = "c.pem"'),
    "cert_file and key_file must both be configured unless use_spire_svid is enabled",
  ),
  telemetry(
    "two certificates for metrics",
    prometheusTls('use_spire_svid = true cert_file = "c.pem" key_file = "k.pem"'),
    "cert_file and key_file cannot be configured when use_spire_svid is enabled",
  ),
  telemetry(
    "two ways to know who reads metrics",
    prometheusTls(
      'cert_file = "c" key_file = "k" client_ca_file = "a" authorized_spiffe_ids = ["spiffe://a/b"]',
    ),
    "client_ca_file cannot be configured with authorized_spiffe_ids",
  ),
  telemetry(
    "authorities of readers that would not be asked",
    prometheusTls('use_spire_svid = true client_ca_file = "a"'),
    "client_ca_file has no effect with use_spire_svid",
  ),
  telemetry(
    "a reader of metrics that has no SPIFFE ID",
    prometheusTls('use_spire_svid = true authorized_spiffe_ids = ["me"]'),
    'invalid authorized SPIFFE ID "me"',
  ),
  telemetry(
    "a StatsD collector without a port",
    'Statsd = [{ address = "localhost" }]',
    'telemetry collector address "localhost" is not a host and a port',
    "127.0.0.1:8125",
  ),
  telemetry("M3", 'M3 = [{ address = "localhost:9000" env = "x" }]', "telemetry.M3 is not supported yet"),
  {
    name: "a certificate for metrics that isn't there",
    replace: [
      "plugins {",
      `telemetry { ${prometheusTls('cert_file = "c.pem" key_file = "k.pem"')} }\nplugins {`,
    ],
    says: ["failed to create TLS config for Prometheus", "c.pem"],
  },
];

const endpoint = (body: string): string => `federation { bundle_endpoint { port = 0 ${body} } }`;

const endpointMistakes: readonly Mistake[] = [
  {
    name: "a bundle endpoint of two profiles",
    line: endpoint('profile "https_web" {} profile "https_spiffe" {}'),
    says: ["exactly one bundle endpoint profile is expected", "v.conf:7:"],
  },
  {
    name: "a bundle endpoint of an unknown profile",
    line: endpoint('profile "https_wbe" {}'),
    says: ["unknown bundle endpoint profile configured", "v.conf:7:"],
  },
  {
    name: "profile https_web without a certificate",
    line: endpoint('profile "https_web" {}'),
    says: ["'acme' or 'serving_cert_file' is required", "v.conf:7:"],
  },
  {
    name: "a certificate of the web from two places",
    line: endpoint('profile "https_web" { acme {} serving_cert_file {} }'),
    says: ["either 'acme' or 'serving_cert_file'", "remove one"],
  },
  {
    name: "certificates by ACME in two places",
    line: endpoint('acme {} profile "https_web" { acme {} }'),
    says: ["either bundle endpoint 'acme' or 'profile' can be set, but not both"],
  },
  {
    name: "a certificate by ACME for no name",
    line: endpoint('profile "https_web" { acme { tos_accepted = true } }'),
    says: ["domain_name must be configured", "v.conf:7:"],
  },
  {
    name: "a certificate by ACME for what is no host name",
    line: endpoint('profile "https_web" { acme { domain_name = "https://b.test" } }'),
    says: ['domain_name "https://b.test" is no host name'],
  },
  {
    name: "an ACME service by plain HTTP",
    line: endpoint('profile "https_web" { acme { domain_name = "b.test" directory_url = "http://a.test" } }'),
    says: ["directory_url must be an https URL"],
  },
  {
    name: "a certificate file that isn't there",
    line: endpoint(
      'profile "https_web" { serving_cert_file { cert_file_path = "c.pem" key_file_path = "k.pem" } }',
    ),
    says: ["failed to load certificate", "c.pem", "v.conf:7:"],
  },
  {
    name: "a certificate without its key",
    line: endpoint('profile "https_web" { serving_cert_file { cert_file_path = "c.pem" } }'),
    says: ["key_file_path must be configured", "v.conf:7:"],
  },
  ...duration("file_sync_interval", "time: ").map((mistake) => ({
    ...mistake,
    line: endpoint(
      `profile "https_web" { serving_cert_file { cert_file_path = "c" key_file_path = "k" ${mistake.line ?? ""} } }`,
    ),
  })),
];

const backup = (name: string, options: string, ...says: readonly string[]): Mistake => ({
  name: `backup ${name}`,
  line: `backup {\n    ${options}\n  }`,
  says: [...says, "v.conf:"],
});

const backupMistakes: readonly Mistake[] = [
  backup("without a directory", 'interval = "1h"', "directory must be configured"),
  backup(
    "with an interval without a unit",
    'directory = "b"\n    interval = "90"',
    'could not parse backup interval "90": time: missing unit in duration "90"',
    "1h30m",
  ),
  backup("that keeps none", 'directory = "b"\n    keep = 0', "keep must be at least 1, not 0"),
  backup(
    "with an option that nobody knows",
    'directory = "b"\n    intervals = 1',
    '"intervals" is unknown',
    'did you mean "interval"?',
  ),
  {
    name: "backup of keys that are in no file",
    file: goodServer
      .replace(
        'KeyManager "disk" { plugin_data { keys_path = "data/keys.json" } }',
        'KeyManager "memory" { plugin_data {} }',
      )
      .replace("}\nplugins", '  backup {\n    directory = "b"\n    with_keys = true\n  }\n}\nplugins'),
    says: ["with_keys needs keys in a file", 'configure KeyManager "disk"', "v.conf:9:"],
  },
  {
    name: "backup of a database in memory",
    file: goodServer
      .replace('connection_string = "data/db.sqlite3"', 'connection_string = ":memory:"')
      .replace("}\nplugins", '  backup {\n    directory = "b"\n  }\n}\nplugins'),
    says: ["backup: the datastore is in memory, and has nothing to back up", "v.conf:7:"],
  },
];

export const serverMistakes: readonly Mistake[] = [
  ...backupMistakes,
  { name: "no file", file: "", says: ["trust_domain must be configured", "v.conf"] },
  { name: "a brace that isn't closed", file: "server {\n", says: ["v.conf", "At 2:2", "closing RBRACE"] },
  {
    name: "a quote that isn't closed",
    file: 'server {\n  trust_domain = "x\n}\n',
    says: ["At 2:20", "not terminated"],
  },
  {
    name: "an equals sign too few",
    file: "server {\n  data_dir data\n}\n",
    says: ["At 3:1", "'data_dir data'"],
  },
  { name: "YAML in an HCL file", file: "server:\n  data_dir: x\n", says: ["At 1:7", "illegal char"] },
  { name: "a comment that isn't closed", file: "/* server {}", says: ["comment not terminated"] },
  {
    name: "JSON with a comma too many",
    file: '{"server": {"data_dir": "x",}}',
    says: ["At 1:", "a key in quotes"],
  },
  {
    name: "no trust domain",
    replace: ['trust_domain = "example.org"', ""],
    says: ["trust_domain must be configured", "v.conf:1:1"],
  },
  {
    name: "an empty trust domain",
    line: 'trust_domain = ""',
    says: ["trust_domain must be configured", "v.conf:2:"],
  },
  {
    name: "capital letters in the trust domain",
    line: 'trust_domain = "Example.org"',
    says: ["lowercase", "v.conf:2:18"],
  },
  {
    name: "a port in the trust domain",
    line: 'trust_domain = "example.org:80"',
    says: ["could not parse trust_domain", ":2:18"],
  },
  { name: "no data directory", replace: ['data_dir = "data"', ""], says: ["data_dir must be configured"] },
  {
    name: "no plugins",
    file: goodServer.slice(0, goodServer.indexOf("plugins")),
    says: ["plugins section must be configured"],
  },
  {
    name: "a port that is a word",
    line: 'bind_port = "https"',
    says: ['parsing "https"', "v.conf:5:15", "whole number"],
  },
  {
    name: "a port that is too large",
    line: "bind_port = 80810",
    says: ["bind_port must be a port number", ":5:15"],
  },
  { name: "a port below zero", line: "bind_port = -1", says: ["bind_port must be a port number"] },
  { name: "a port with a fraction", line: "bind_port = 80.5", says: ["server.bind_port", "whole number"] },
  {
    name: "an address that is none",
    line: 'bind_address = "my host"',
    says: ["could not resolve bind address", ":4:18", "0.0.0.0"],
  },
  {
    name: "a truth value in quotes",
    line: 'audit_log_enabled = "true"',
    says: ["server.audit_log_enabled", "true or false", ":7:23"],
  },
  {
    name: "a number for a truth value",
    line: "disable_jwt_svids = 1",
    says: ["server.disable_jwt_svids", "true or false"],
  },
  {
    name: "a truth value for a text",
    line: "data_dir = true",
    says: ["server.data_dir", 'write "true", in quotes', ":3:14"],
  },
  {
    name: "a text for a list",
    line: 'admin_ids = "spiffe://a/b"',
    says: ["unknown slice type", 'write a list such as ["a", "b"]'],
  },
  { name: "a list for a text", line: 'log_file = ["a"]', says: ["server.log_file", "write a text"] },
  { name: "a text for a block", line: 'ca_subject = "C=US"', says: ["server.ca_subject", "write a block"] },
  {
    name: "an administrator without scheme",
    line: 'admin_ids = ["example.org/admin"]',
    says: ["could not parse admin ID", "v.conf:7:"],
  },
  ...duration("ca_ttl", "could not parse default CA ttl"),
  ...duration("agent_ttl", "could not parse agent ttl"),
  ...duration("default_x509_svid_ttl", "could not parse default X509 SVID ttl"),
  ...duration("default_jwt_svid_ttl", "could not parse default JWT SVID ttl"),
  { name: "a lifetime below a second", line: 'ca_ttl = "10ms"', says: ["ca_ttl must be at least 1s"] },
  { name: "a duration that isn't quoted", line: "ca_ttl = 24h", says: ["v.conf", "At 8:1"] },
  {
    name: "a key type that is none",
    line: 'ca_key_type = "rsa-1024"',
    says: ["must be one of [rsa-2048", "v.conf:7:17"],
  },
  {
    name: "a JWT key type that is none",
    line: 'jwt_key_type = "es256"',
    says: ["error parsing jwt_key_type", ":7:18"],
  },
  {
    name: "a log level that is none",
    line: 'log_level = "verbose"',
    says: ["not a valid logrus Level", ":7:15", "debug"],
  },
  {
    name: "a log format that is none",
    line: 'log_format = "xml"',
    says: ["unknown logger format", "text, json"],
  },
  {
    name: "a log file that can't be",
    line: 'log_file = "none/server.log"',
    says: ["open none/server.log: no such file or directory", "v.conf:7:"],
  },
  {
    name: "a mistyped option",
    line: 'trust_domian = "x"',
    says: ['"trust_domian" is unknown in server', 'did you mean "trust_domain"?', ":7:3"],
  },
  {
    name: "an option of the agent",
    line: 'server_address = "x"',
    says: ['"server_address" is unknown in server'],
  },
  {
    name: "a mistyped section",
    file: goodServer.replace("server {", "sever {"),
    says: ["trust_domain must be configured"],
  },
  {
    name: "a mistyped option of a block",
    line: "ratelimit { atestation = true }",
    says: ['did you mean "attestation"?', ":7:15"],
  },
  {
    name: "a plugin that is named twice",
    replace: ['NodeAttestor "join_token" {', 'NodeAttestor "join_token" {}\nNodeAttestor "join_token" {'],
    says: ['plugin "NodeAttestor"/"join_token" declared more than once', "v.conf:"],
  },
  {
    name: "a Windows option",
    line: 'experimental { named_pipe_name = "x" }',
    says: ["not supported in this platform"],
  },
  ...endpointMistakes,
  {
    name: "federation with a plain URL",
    line: 'federation { federates_with "b.test" { bundle_endpoint_url = "http://b.test" } }',
    says: ["must use the HTTPS protocol", "v.conf:7:"],
  },
  {
    name: "federation without a URL",
    line: 'federation { federates_with "b.test" {} }',
    says: ["bundle_endpoint_url must be configured"],
  },
  {
    name: "federation without a profile",
    line: 'federation { federates_with "b.test" { bundle_endpoint_url = "https://b.test" } }',
    says: ["missing bundle endpoint configuration", "add bundle_endpoint_profile"],
  },
  {
    name: "federation with itself",
    line: 'federation { federates_with "example.org" { bundle_endpoint_url = "https://b.test" bundle_endpoint_profile "https_web" {} } }',
    says: ["cannot federate with own trust domain"],
  },
  {
    name: "a feature flag that there is not",
    line: 'experimental { feature_flags = ["wit-svid", "wit-svids"] }',
    says: ["error loading feature flags: unknown feature flag(s): [wit-svids]", "v.conf:7:34", '"wit-svid"'],
  },
  {
    name: "an unknown type of key for WIT authorities",
    line: 'experimental { wit_key_type = "ec-p521" }',
    says: ['error parsing wit_key_type: key type "ec-p521" is unknown', "v.conf:7:33", "ec-p384"],
  },
  ...duration("prune_attested_nodes_expired_for", "could not parse prune_attested_nodes_expired_for"),
  {
    name: "a range of proxies that is none",
    line: 'proxy_protocol_trusted_cidrs = ["10.0.0.0/8", "10.0.0.1"]',
    says: [
      'invalid proxy_protocol_trusted_cidrs value "10.0.0.1": invalid CIDR address: 10.0.0.1',
      "v.conf:7:",
      "192.0.2.7/32",
    ],
  },
  {
    name: "a health port that is none",
    replace: ["}\nplugins", '}\nhealth_checks { listener_enabled = true bind_port = "http" }\nplugins'],
    says: ['bind_port must be a port number, not "http"', "v.conf:8:"],
  },
  {
    name: "a health path without a slash",
    replace: ["}\nplugins", '}\nhealth_checks { listener_enabled = true live_path = "live" }\nplugins'],
    says: ["live_path must begin with a slash", "v.conf:8:", '"/live"'],
  },
  {
    name: "health paths that are the same",
    replace: ["}\nplugins", '}\nhealth_checks { listener_enabled = true live_path = "/ready" }\nplugins'],
    says: ["live_path and ready_path must differ", "v.conf:8:"],
  },
  {
    name: "an unknown kind of plugin",
    replace: ['NodeAttestor "join', 'NodeAtestor "join'],
    says: ['unsupported plugin type "NodeAtestor"', 'did you mean "NodeAttestor"?', "v.conf:14:"],
  },
  {
    name: "an unknown plugin",
    replace: ['"join_token"', '"join_tokens"'],
    says: ['no built-in plugin "join_tokens"', 'did you mean "join_token"?', ":14:16"],
  },
  { name: "no datastore", replace: ["DataStore", "Notifier"], says: ['no built-in plugin "sql"'] },
  {
    name: "two key managers",
    replace: ["  NodeAttestor", '  KeyManager "memory" {}\n  NodeAttestor'],
    says: ["expected exactly 1 but got 2", "v.conf:14:14", "too many"],
  },
  {
    name: "two datastores",
    replace: [
      "  NodeAttestor",
      '  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "b" } }\n  NodeAttestor',
    ],
    says: ['plugin "DataStore"/"sql" declared more than once', "v.conf:14:13"],
  },
  {
    name: "no key manager",
    replace: ['KeyManager "disk" { plugin_data { keys_path = "data/keys.json" } }', ""],
    says: ["expected exactly 1 but got 0"],
  },
  {
    name: "a disk key manager without path",
    replace: ['keys_path = "data/keys.json"', ""],
    says: ["keys_path is required", "v.conf:13:"],
  },
  {
    name: "an unknown option of a strict plugin",
    replace: ["plugin_data {} }\n}", "plugin_data { ttl = 1 } }\n}"],
    says: ['unknown setting "ttl" encountered', ":14:"],
  },
  {
    name: "no database",
    replace: ['connection_string = "data/db.sqlite3"', ""],
    says: ["connection_string must be set", "v.conf:9:"],
  },
  {
    name: "an unknown database",
    replace: ['"sqlite3"', '"oracle"'],
    says: ["unsupported database_type: oracle", "v.conf:9:"],
  },
  {
    name: "a database that isn't supported yet",
    replace: ['"sqlite3"', '"postgres"'],
    says: ["database_type postgres is not supported yet"],
  },
  {
    name: "a plugin that isn't supported yet",
    replace: ['"join_token" { plugin_data {} }', '"http_challenge" { plugin_data {} }'],
    says: ['NodeAttestor "http_challenge" is not supported yet', "v.conf:14:"],
  },
  ...x509popMistakes,
  {
    name: "an option that isn't supported yet",
    line: "log_source_location = true",
    says: ["server.log_source_location is not supported yet", "v.conf:7:25"],
  },
  {
    name: "a policy of the operator",
    line: 'experimental { auth_opa_policy_engine { local { rego_path = "policy.rego" } } }',
    says: ["server.experimental.auth_opa_policy_engine is not supported yet", "v.conf:7:"],
  },
  {
    name: "an external plugin",
    replace: ['"join_token" {', '"mine" { plugin_cmd = "/bin/mine" plugin_checksum = "00"'],
    says: ["expected checksum of length 64; got 2", ":14:"],
  },
  {
    name: "options in two places",
    replace: ['"join_token" {', '"join_token" { plugin_data_file = "x"'],
    says: ["only one of [plugin_data, plugin_data_file] can be used", "v.conf:"],
  },
  {
    name: "a file of options that isn't there",
    replace: ['"join_token" { plugin_data {}', '"join_token" { plugin_data_file = "nope"'],
    says: ["open nope: no such file or directory", "v.conf:"],
  },
  ...telemetryMistakes,
  ...issuanceMistakes,
];

export const agentMistakes: readonly Mistake[] = [
  x509pop("without a private key", 'certificate_path = "node.pem"', "private_key_path is required"),
  x509pop("without a certificate", 'private_key_path = "node.key"', "certificate_path is required"),
  x509pop(
    "with a Workload API that is no Unix socket",
    'spiffe_endpoint_socket = "tcp://127.0.0.1:1"',
    "spiffe_endpoint_socket must be a Unix socket",
    '"tcp://127.0.0.1:1"',
  ),
  {
    name: "no server address",
    replace: ['server_address = "127.0.0.1"', ""],
    says: ["server_address must be configured"],
  },
  { name: "no server port", replace: ["server_port = 1", ""], says: ["server_port must be configured"] },
  {
    name: "no way to bootstrap",
    replace: ["insecure_bootstrap = true", ""],
    says: ["trust_bundle_path, trust_bundle_url"],
  },
  {
    name: "two ways to bootstrap",
    line: 'trust_bundle_path = "b.pem"',
    says: ["only one of insecure_bootstrap or trust_bundle_path", "v.conf:8:"],
  },
  {
    name: "a bundle by plain HTTP",
    replace: ["insecure_bootstrap = true", 'trust_bundle_url = "http://b"'],
    says: ["must start with https://", "v.conf:7:"],
  },
  {
    name: "a bundle format that is none",
    replace: ["insecure_bootstrap = true", 'trust_bundle_path = "b"\n  trust_bundle_format = "der"'],
    says: ['expected "pem" or "spiffe"', ":8:"],
  },
  {
    name: "a token twice",
    line: 'join_token = "a"\n  join_token_file = "b"',
    says: ["only one of join_token or join_token_file"],
  },
  {
    name: "a token file that isn't there",
    line: 'join_token_file = "nope"',
    says: ['unable to read join token file "nope"', ":8:"],
  },
  {
    name: "an admin socket among workloads",
    line: 'admin_socket_path = "public/admin.sock"',
    says: ["admin socket cannot be in the same directory"],
  },
  {
    name: "a delegate of elsewhere",
    line: 'authorized_delegates = ["spiffe://b.test/d"]',
    says: ["is not a member of trust domain"],
  },
  {
    name: "an availability target too short",
    line: 'availability_target = "1h"',
    says: ["must be at least 24h0m0s", ":8:"],
  },
  {
    name: "a cache below zero",
    line: "x509_svid_cache_max_size = -1",
    says: ["should not be negative", ":8:"],
  },
  {
    name: "a rebootstrap mode that is none",
    line: 'rebootstrap_mode = "often"',
    says: ["unknown rebootstrap mode", "never, auto and always"],
  },
  {
    name: "a sync interval that is none",
    line: 'experimental { sync_interval = "5" }',
    says: ["could not parse synchronization interval", ":8:"],
  },
  {
    name: "a key type of workloads that is none",
    line: 'workload_x509_svid_key_type = "rsa-4096"',
    says: ["must be one of [rsa-2048, ec-p256, ec-p384]"],
  },
  {
    name: "no workload attestor",
    replace: ['WorkloadAttestor "unix" { plugin_data {} }', ""],
    says: ["expected at least 1 but got 0"],
  },
  {
    name: "two node attestors",
    replace: ["  KeyManager", '  NodeAttestor "k8s_psat" {}\n  KeyManager'],
    says: ["expected exactly 1 but got 2", "v.conf:11:16"],
  },
  {
    name: "a disk key manager without directory",
    replace: ['"memory"', '"disk"'],
    says: ["directory must be set", "v.conf:11:"],
  },
  {
    name: "an attestor that isn't supported yet",
    replace: ['"unix"', '"docker"'],
    says: ['WorkloadAttestor "docker" is not supported yet'],
  },
];
