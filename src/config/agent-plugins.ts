/** An agent's plugins: key managers, node attestors, workload attestors, SVID stores. */
import { z } from "zod";
import { type PluginKinds, plugin } from "./plugin-facts.ts";
import { duration, integer, section, text, texts, truth } from "./schema.ts";
import { checkX509popAgent } from "./x509pop.ts";

const many = Number.POSITIVE_INFINITY;

const sigstore = section(
  "Signatures of images",
  {
    allowed_identities: z
      .record(z.string(), z.array(z.string()))
      .optional()
      .meta({ description: "Issuers, and the subjects that may have signed" }),
    skipped_images: texts("Images that need no signature"),
    rekor_url: text("URL of Rekor", { default: "https://rekor.sigstore.dev" }),
    ignore_tlog: truth("Doesn't ask the transparency log", { default: "false" }),
    ignore_attestations: truth("Doesn't look at attestations", { default: "false" }),
    ignore_sct: truth("Doesn't look at certificate timestamps", { default: "false" }),
    registry_credentials: z
      .record(z.string(), z.strictObject({ username: text("User"), password: text("Password") }))
      .optional()
      .meta({ description: "Access to registries" }),
  },
  { unknownKeys: "ignore" },
);

const containerLocator = {
  use_new_container_locator: truth("Finds containers as SPIRE does since 1.9", { default: "true" }),
  verbose_container_locator_logs: truth("Logs how", { default: "false" }),
};

export const agentPlugins: PluginKinds = {
  KeyManager: {
    least: 1,
    most: 1,
    plugins: {
      memory: plugin("Keys in memory; gone at the end", {}, { here: true, unknownKeys: "ignore" }),
      disk: plugin(
        "Keys in `keys.json` of a directory",
        { directory: text("The directory; required") },
        {
          here: true,
          unknownKeys: "ignore",
          check: ({ directory }) => ((directory ?? "") === "" ? ["directory must be set"] : []),
        },
      ),
    },
  },
  NodeAttestor: {
    least: 1,
    most: 1,
    plugins: {
      join_token: plugin("The token of the `agent` section", {}, { here: true, unknownKeys: "ignore" }),
      x509pop: plugin(
        "An X.509 certificate, read anew for each attestation",
        {
          private_key_path: text("Private key, PEM"),
          certificate_path: text("Certificate, PEM"),
          intermediates_path: text("Intermediate certificates, PEM"),
          spiffe_endpoint_socket: text(
            "Instead of files: another agent's Workload API, such as `unix:///run/agent.sock`",
          ),
        },
        { here: true, unknownKeys: "ignore", check: checkX509popAgent },
      ),
      sshpop: plugin("An SSH host certificate", {
        host_key_path: text("Private key", { default: "/etc/ssh/ssh_host_rsa_key" }),
        host_cert_path: text("Certificate", { default: "/etc/ssh/ssh_host_rsa_key-cert.pub" }),
      }),
      tpm_devid: plugin("Keys of a TPM", {
        tpm_device_path: text("The TPM; found if not set"),
        devid_cert_path: text("DevID certificate, PEM"),
        devid_priv_path: text("Private part of the DevID key"),
        devid_pub_path: text("Public part of the DevID key"),
        devid_password: text("Password of the DevID key"),
        endorsement_hierarchy_password: text("Password of the endorsement hierarchy"),
        owner_hierarchy_password: text("Password of the owner hierarchy"),
      }),
      http_challenge: plugin("A file that the agent serves by HTTP", {
        hostname: text("Host name; the machine's if not set"),
        agentname: text("Name of the agent on its host", { default: "default" }),
        port: integer("Port to listen on; a free one if not set"),
        advertised_port: integer("Port that the server is told"),
      }),
      k8s_psat: plugin("A Kubernetes service account token", {
        cluster: text("Name of the cluster"),
        token_path: text("File with the token", { default: "/var/run/secrets/tokens/spire-agent" }),
      }),
      aws_iid: plugin("The AWS instance", { ec2_metadata_endpoint: text("Metadata service") }),
      gcp_iit: plugin("The Google Cloud instance", {
        identity_token_host: text("Metadata service", { default: "metadata.google.internal" }),
        service_account: text("Service account", { default: "default" }),
      }),
      azure_msi: plugin("The Azure managed identity", { resource_id: text("Audience of tokens") }),
      azure_imds: plugin("The Azure instance", { tenant_domain: text("Domain of the tenant") }),
    },
  },
  WorkloadAttestor: {
    least: 1,
    most: many,
    plugins: {
      unix: plugin(
        "User, group and program of a process",
        {
          discover_workload_path: truth("Also path and hash of its program", { default: "false" }),
          workload_size_limit: integer("Bytes of a program that is hashed at most; 0 = any, below 0 = none", {
            default: "0",
          }),
        },
        { here: true, unknownKeys: "ignore" },
      ),
      systemd: plugin("Units of systemd"),
      docker: plugin("Containers of Docker and Podman", {
        docker_socket_path: text("Docker's socket", { default: "unix:///var/run/docker.sock" }),
        docker_version: text("Version of Docker's API"),
        podman_socket_path: text("Podman's socket"),
        podman_socket_path_template: text("Podman's socket of a user"),
        container_id_cgroup_matchers: texts("Patterns of cgroup paths"),
        sigstore,
        ...containerLocator,
      }),
      k8s: plugin("Pods of Kubernetes", {
        kubelet_read_only_port: integer("Read-only port of the kubelet"),
        kubelet_secure_port: integer("Port of the kubelet", { default: "10250" }),
        kubelet_ca_path: text("The kubelet's authorities, PEM"),
        skip_kubelet_verification: truth("Doesn't verify the kubelet", { default: "false" }),
        token_path: text("Token for the kubelet"),
        certificate_path: text("Certificate for the kubelet, PEM"),
        private_key_path: text("Private key for the kubelet, PEM"),
        use_anonymous_authentication: truth("Asks the kubelet anonymously", { default: "false" }),
        node_name: text("Name of the node"),
        node_name_env: text("Variable with the name of the node", { default: "MY_NODE_NAME" }),
        max_poll_attempts: integer("How often the kubelet is asked for a pod", { default: "60" }),
        poll_retry_interval: duration("Time between", { default: "500ms" }),
        reload_interval: duration("How often certificates are read again", { default: "1m" }),
        disable_container_selectors: truth("No selectors of containers", { default: "false" }),
        disable_kubelet_client: truth("Doesn't ask the kubelet", { default: "false" }),
        enable_namespace_labels: truth("Selectors of namespace labels", { default: "false" }),
        sigstore,
        ...containerLocator,
        experimental: section("Options that may change", {}, { unknownKeys: "ignore" }),
      }),
      slurm: plugin("Jobs of Slurm"),
    },
  },
  SVIDStore: {
    least: 0,
    most: many,
    plugins: {
      aws_secretsmanager: plugin("SVIDs to AWS Secrets Manager", {
        access_key_id: text("AWS access key"),
        secret_access_key: text("AWS secret key"),
        region: text("AWS region"),
      }),
      gcp_secretmanager: plugin("SVIDs to Google Secret Manager", {
        service_account_file: text("Service account, JSON"),
      }),
    },
  },
};
