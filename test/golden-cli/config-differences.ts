/** Recorded cases of configuration files in which we differ from SPIRE on purpose, each with its benefit to users. */

interface Difference {
  /** The benefit. */
  readonly why: string;
  readonly exitCode: number;
  /** Standard error, without places and remedies; for a failed start the log's error. */
  readonly error: string;
}

const invalid = (program: string, text: string): string =>
  `SPIRE ${program} configuration file is invalid.\nValidation errors:\n${text}`;

/** SPIRE's agent looks at plugins only when it runs, and then refuses these files. */
const agentPlugins = (text: string): Difference => ({
  why: "a file that `run` refuses is not valid: the agent's plugins are checked, too",
  exitCode: 1,
  error: text.startsWith("\t") ? invalid("agent", text) : `Could not validate configuration file: ${text}\n`,
});

const unknownKeys: Difference = {
  why: "the message names the key; no log line on standard output besides",
  exitCode: 1,
  error: "SPIRE agent configuration file is invalid: unknown configuration detected\n",
};

/** Of `run`; the error is the log's. */
export const runDifferences: Readonly<Record<string, Difference>> = {
  "spire-agent/run-bad/bundle-path-missing-file": {
    why: "an agent whose bundle can't be read says so and ends; SPIRE's tries for ever, and looks as if it ran",
    exitCode: 1,
    error: "trust bundle \"nope.pem\" can't be used: ENOENT: no such file or directory, open 'nope.pem'",
  },
};

export const configDifferences: Readonly<Record<string, Difference>> = {
  "spire-server/validate/federation-acme-incomplete": {
    why: "a bundle endpoint that could never get a certificate, as it has no domain name, is refused",
    exitCode: 1,
    error: "SPIRE server configuration file is invalid: domain_name must be configured\n",
  },
  "spire-server/validate/datastore-bad-type": {
    why: "a database type that `run` refuses is not valid",
    exitCode: 1,
    error: invalid("server", '\tDataStore "sql":\n\t\tdatastore-sql: unsupported database_type: oracle\n'),
  },
  "spire-server/validate/two-datastores": {
    why: "a second datastore of a name that doesn't exist is refused; SPIRE ignores it",
    exitCode: 1,
    error:
      'Could not validate configuration file: failed to load plugin "other": no built-in plugin "other" for type "DataStore"\n',
  },
  "spire-server/validate/datastore-no-connection": {
    why: "the problem is listed once; SPIRE lists it twice",
    exitCode: 1,
    error: invalid("server", '\tDataStore "sql":\n\t\tdatastore-sql: connection_string must be set\n'),
  },
  "spire-server/validate/federation-self": {
    why: "federation with the own trust domain is refused: it replaces the own bundle",
    exitCode: 1,
    error:
      'SPIRE server configuration file is invalid: error parsing federation relationship for trust domain "example.org": cannot federate with own trust domain\n',
  },
  "spire-agent/validate/keymanager-disk-no-dir": agentPlugins(
    '\tKeyManager "disk":\n\t\tdirectory must be set\n',
  ),
  "spire-agent/validate/missing-keymanager": agentPlugins(
    "\tKeyManager:\n\t\tconstraint not satisfied: expected exactly 1 but got 0\n",
  ),
  "spire-agent/validate/missing-node-attestor": agentPlugins(
    "\tNodeAttestor:\n\t\tconstraint not satisfied: expected exactly 1 but got 0\n",
  ),
  "spire-agent/validate/missing-workload-attestor": agentPlugins(
    "\tWorkloadAttestor:\n\t\tconstraint not satisfied: expected at least 1 but got 0\n",
  ),
  "spire-agent/validate/two-keymanagers": agentPlugins(
    "\tKeyManager:\n\t\tconstraint not satisfied: expected exactly 1 but got 2\n",
  ),
  "spire-agent/validate/two-node-attestors": agentPlugins(
    "\tNodeAttestor:\n\t\tconstraint not satisfied: expected exactly 1 but got 2\n",
  ),
  "spire-agent/validate/unknown-plugin-name": agentPlugins(
    'failed to load plugin "bogus": no built-in plugin "bogus" for type "WorkloadAttestor"',
  ),
  "spire-agent/validate/unknown-plugin-type": agentPlugins('unsupported plugin type "Bogus"'),
  "spire-agent/validate/bogus-1": unknownKeys,
  "spire-agent/validate/retry-bootstrap-true": unknownKeys,
  "spire-agent/validate/server-port2-1": unknownKeys,
};
