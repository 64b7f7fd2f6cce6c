/** Where this server's log, audit log and metrics differ from the recorded ones, and why. */

/** By service, method, caller, status, code and fields. */
export const auditDifferences: Readonly<Record<string, string>> = {
  "Health List local error 12 authorized_as,authorized_via,caller_gid,caller_path,caller_uid,method,service,status,status_code,status_message,subsystem_name,type":
    "no server has the method; the call is refused before anybody's rights are looked at",
  "agent.v1.Agent AttestAgent nobody error 3 agent_id,authorized_as,authorized_via,caller_addr,method,node_attestor_type,service,status,status_code,status_message,subsystem_name,type":
    "the CSR is judged before the proof, so that a bad one uses no token up: nobody knows the agent yet",
  "svid.v1.SVID NewJWTSVID agent error 13 audience,authorized_as,authorized_via,caller_addr,caller_id,entry_id,method,service,spiffe_id,status,status_code,status_message,subsystem_name,type":
    "the same line has code 3: the mistake is the caller's",
};

const noSteps = "the part ends in one step, of which nothing can be said that helps";
const byClock = "logged by the clock, after a time that this test doesn't wait for";
const signatures = "the audit log has each signature with its fields; a second line would cost each of them";

/** By level, subsystem and message. */
export const logDifferences: Readonly<Record<string, string>> = {
  "warning telemetry: Agent is now configured to accept remote network connections for Prometheus stats collection. Please ensure access to this port is tightly controlled":
    "logged for addresses that others can reach, not for loopback; and a server is no agent",
  "debug catalog: Closing DataStore": noSteps,
  "debug catalog: Closing catalog": noSteps,
  "debug catalog: Unloading plugin": noSteps,
  "debug catalog: Plugin deinitialized": noSteps,
  "debug bundle_client: Stopping stale updaters": noSteps,
  "debug bundle_client: Done stopping stale updaters": noSteps,
  "debug health: Initializing health checkers": noSteps,
  "debug health: Finishing health checker": noSteps,
  "debug endpoints: Initializing API endpoints": noSteps,
  "debug endpoints: Stopping event pruner": "there is none: changes are a feed",
  "debug endpoints: Stopping in-memory entry cache hydrator": "there is none: changes are a feed",
  "debug svid_rotator: Stopping SVID rotator": noSteps,
  "debug ca_manager: Loading journal from datastore": "its end is logged at level info: Journal loaded",
  "debug ca_manager: Successfully stored CA journal entry in datastore":
    "a journal that can't be stored fails the step, which is logged",
  "debug ca_manager: There is no active X.509 authority yet. Can't save CA journal in the datastore":
    "the journal is written with the first activation, which is no trouble to tell of",
  "info sql: Pruned an expired registration": byClock,
  "debug svid_rotator: Rotating server SVID": byClock,
  "error api: Failed to sign JWT-SVID":
    "an empty audience is the caller's mistake: Invalid argument: failed to sign JWT-SVID",
  "error api: Invalid argument: failed to convert JWT authority":
    "without trust_domain_id: there is but one whose bundle can be appended to",
  "error api: Invalid argument: failed to convert X.509 authority":
    "without trust_domain_id: there is but one whose bundle can be appended to",
  "error api: Rate limiter went unused; this is a bug":
    "the bug isn't here: limits are taken before a handler runs",
  "debug api: Server CA successfully signed JWT SVID": signatures,
  "debug api: Signed X509 CA SVID": signatures,
  "debug api: Signed X509 SVID": signatures,
};

const goRuntime = "counts the work of Go's runtime, which is not here; process_* tell what the process uses";
const oneWrite = "a node is one row with its selectors: node_create, node_fetch and node_list cover them";

/** By name; `_elapsed_time` goes with its counter. */
export const metricDifferences: Readonly<Record<string, string>> = {
  "go_*": goRuntime,
  spire_server_runtime_free_count: goRuntime,
  spire_server_runtime_gc_pause_ns: goRuntime,
  spire_server_runtime_heap_objects: goRuntime,
  spire_server_runtime_malloc_count: goRuntime,
  spire_server_runtime_num_goroutines: goRuntime,
  spire_server_runtime_total_gc_pause_ns: goRuntime,
  spire_server_runtime_total_gc_runs: goRuntime,
  spire_server_datastore_bundle_append:
    "one write for all changes of a bundle: bundle_create or bundle_update",
  spire_server_datastore_bundle_set: "one write for all changes of a bundle: bundle_create or bundle_update",
  spire_server_datastore_join_token_delete: "a token is read and removed in one step: join_token_fetch",
  spire_server_datastore_node_selectors_fetch: oneWrite,
  spire_server_datastore_node_selectors_list: oneWrite,
  spire_server_datastore_node_selectors_set: oneWrite,
  spire_server_rpc_health_list: "no server has the method",
};
