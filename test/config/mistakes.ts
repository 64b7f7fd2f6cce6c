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
    says: [what, 'time: invalid duration "90"', ":7:", "1h30m"],
  },
  {
    name: `${option} below zero`,
    line: `${option} = "-1h"`,
    says: [`${option} must not be negative`, "v.conf:7:"],
  },
];

export const serverMistakes: readonly Mistake[] = [
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
    says: ["could not start logger", "none/server.log"],
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
    name: "plugin options beside plugin_data",
    replace: ['NodeAttestor "join_token" {', 'NodeAttestor "join_token" { x = 1'],
    says: ['"x" is unknown in plugin "join_token"'],
  },
  {
    name: "a Windows option",
    line: 'experimental { named_pipe_name = "x" }',
    says: ["not supported in this platform"],
  },
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
    says: ['"DataStore" constraint not satisfied', "v.conf:14:13"],
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
    replace: ['"join_token" { plugin_data {} }', '"x509pop" { plugin_data { ca_bundle_path = "ca.pem" } }'],
    says: ['NodeAttestor "x509pop" is not supported yet', "v.conf:14:"],
  },
  {
    name: "an option that isn't supported yet",
    line: "audit_log_enabled = true",
    says: ["server.audit_log_enabled is not supported yet", "v.conf:7:23"],
  },
  {
    name: "an external plugin",
    replace: ['"join_token" {', '"mine" { plugin_cmd = "/bin/mine" plugin_checksum = "00"'],
    says: ["expected checksum of length 64; got 2", ":14:"],
  },
  {
    name: "options in two places",
    replace: ['"join_token" {', '"join_token" { plugin_data_file = "x"'],
    says: ["both plugin_data and plugin_data_file"],
  },
  {
    name: "a file of options that isn't there",
    replace: ['"join_token" { plugin_data {}', '"join_token" { plugin_data_file = "nope"'],
    says: ["could not find config file", "nope"],
  },
];

export const agentMistakes: readonly Mistake[] = [
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
