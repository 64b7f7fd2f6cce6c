/** A server's plugins: datastores, key managers, node attestors, upstream authorities and the rest. */
import { z } from "zod";
import { type PluginKinds, plugin } from "./plugin-facts.ts";
import { duration, integer, named, section, text, texts, truth } from "./schema.ts";
import {
  checkDatabase,
  checkDiskUpstream,
  checkSpireUpstream,
  experimentalOf,
  keyServiceCheck,
  nameOfType,
  requireAny,
  required,
} from "./server-plugin-checks.ts";
import { checkX509popServer } from "./x509pop.ts";

const many = Number.POSITIVE_INFINITY;

const keyIdentifier = {
  key_identifier_file: text("File that keeps the server's identifier"),
  key_identifier_value: text("The server's identifier"),
};
const aws = {
  region: text("AWS region"),
  access_key_id: text("AWS access key"),
  secret_access_key: text("AWS secret key"),
};
const azureApp = {
  tenant_id: text("Azure tenant"),
  subscription_id: text("Azure subscription"),
  app_id: text("Azure application"),
  app_secret: text("Its secret"),
};
const vaultAccess = {
  vault_addr: text("URL of Vault"),
  namespace: text("Vault namespace"),
  ca_cert_path: text("Vault's authorities, PEM"),
  insecure_skip_verify: truth("Doesn't verify Vault", { default: "false" }),
  cert_auth: section("Authentication by certificate", {
    cert_auth_mount_point: text("Mount point", { default: "cert" }),
    cert_auth_role_name: text("Role"),
    client_cert_path: text("Certificate, PEM"),
    client_key_path: text("Private key, PEM"),
  }),
  token_auth: section("Authentication by token", { token: text("The token") }),
  approle_auth: section("Authentication by AppRole", {
    approle_auth_mount_point: text("Mount point", { default: "approle" }),
    approle_id: text("Role ID"),
    approle_secret_id: text("Secret ID"),
  }),
  k8s_auth: section("Authentication by Kubernetes token", {
    k8s_auth_mount_point: text("Mount point", { default: "kubernetes" }),
    k8s_auth_role_name: text("Role"),
    token_path: text("File with the token"),
  }),
};
const agentPath = { agent_path_template: text("Template of agents' SPIFFE ID paths") };
const publishing = {
  format: text("`spiffe`, `jwks` or `pem`"),
  refresh_hint: duration("Refresh hint in the bundle"),
};

const pool = { noEffect: "SQLite has one connection" };

const sql = plugin(
  "SQL database",
  {
    database_type: z
      .union([z.string(), z.record(z.string(), z.strictObject({ ...aws }))])
      .optional()
      .meta({ description: "`sqlite3`; SPIRE also has `postgres`, `mysql`, `aws_postgres` and `aws_mysql`" }),
    connection_string: text("With `sqlite3` the path of the database file"),
    ro_connection_string: text("Database for reading", { notYet: "a database for reading" }),
    root_ca_path: text("Authorities of the database, PEM", { notYet: "TLS to the database" }),
    client_cert_path: text("Certificate for the database, PEM", { notYet: "TLS to the database" }),
    client_key_path: text("Private key for the database, PEM", { notYet: "TLS to the database" }),
    max_open_conns: integer("Open connections at most", { default: "100", ...pool }),
    max_idle_conns: integer("Idle connections at most", { default: "100", ...pool }),
    conn_max_lifetime: duration("Lifetime of a connection", pool),
    disable_migration: truth("Doesn't bring the schema up to date", {
      default: "false",
      notYet: "to start without migration",
    }),
  },
  {
    here: true,
    unknownKeys: "ignore",
    check: checkDatabase,
    notYet: ({ database_type: type }) =>
      type === "sqlite3" ? undefined : `database_type ${nameOfType(type)}`,
  },
);

export const serverPlugins: PluginKinds = {
  DataStore: { least: 1, most: 1, plugins: { sql } },
  KeyManager: {
    least: 1,
    most: 1,
    plugins: {
      memory: plugin("Keys in memory; gone at the end", {}, { here: true, unknownKeys: "ignore" }),
      disk: plugin(
        "Keys in a file",
        { keys_path: text("The file; required") },
        { here: true, unknownKeys: "ignore", check: required(["keys_path", "keys_path is required"]) },
      ),
      aws_kms: plugin(
        "Keys in AWS KMS",
        {
          ...aws,
          ...keyIdentifier,
          key_policy_file: text("Policy for new keys, JSON"),
          key_tags: z.record(z.string(), z.string()).optional().meta({ description: "Tags of keys" }),
          enable_tag_based_key_discovery: truth("Finds keys by tags", { default: "false" }),
        },
        { check: keyServiceCheck(["region", "configuration is missing a region"]) },
      ),
      gcp_kms: plugin(
        "Keys in Google Cloud KMS",
        {
          key_ring: text("Key ring"),
          ...keyIdentifier,
          key_policy_file: text("Policy for new keys, JSON"),
          service_account_file: text("Service account, JSON"),
        },
        { check: keyServiceCheck(["key_ring", "configuration is missing the key ring"]) },
      ),
      azure_key_vault: plugin(
        "Keys in Azure Key Vault",
        {
          key_vault_uri: text("URI of the vault"),
          ...keyIdentifier,
          ...azureApp,
        },
        { check: keyServiceCheck(["key_vault_uri", "configuration is missing the Key Vault URI"]) },
      ),
      hashicorp_vault: plugin(
        "Keys in HashiCorp Vault",
        {
          transit_engine_path: text("Path of the transit engine", { default: "transit" }),
          ...keyIdentifier,
          ...vaultAccess,
        },
        {
          check: (data) =>
            data["key_identifier_file"] || data["key_identifier_value"]
              ? []
              : ["one of 'key_identifier_file' or 'key_identifier_value' must be provided"],
        },
      ),
    },
  },
  NodeAttestor: {
    least: 0,
    most: many,
    plugins: {
      join_token: plugin("Tokens that count once", {}, { here: true, unknownKeys: "refuse" }),
      x509pop: plugin(
        "X.509 certificates",
        {
          mode: text("`external_pki` or `spiffe`", { default: "external_pki" }),
          ca_bundle_path: text("With mode `external_pki`: the authorities of nodes' certificates, PEM"),
          ca_bundle_paths: texts("The same in several files"),
          spiffe_prefix: text("With mode `spiffe`: what the paths of nodes' SPIFFE IDs begin with", {
            default: "/spire-exchange/",
          }),
          max_intermediates: integer("Intermediate certificates at most", { default: "4" }),
          max_rsa_key_size: integer("Bits of an RSA key at most", { default: "8192" }),
          verify_client_ip: truth("Whether the certificate must name the caller's IP address", {
            default: "false",
          }),
          ...agentPath,
        },
        { here: true, unknownKeys: "ignore", check: checkX509popServer },
      ),
      sshpop: plugin(
        "SSH host certificates",
        {
          cert_authorities: texts("Authorities, in the form of authorized_keys"),
          cert_authorities_path: text("File with authorities"),
          canonical_domain: text("Domain that host names must end in"),
          ...agentPath,
        },
        {
          check: (data) =>
            data["cert_authorities"] || data["cert_authorities_path"]
              ? []
              : ['missing required config value for "cert_authorities" or "cert_authorities_path"'],
        },
      ),
      tpm_devid: plugin(
        "Keys of a TPM",
        {
          devid_ca_path: text("Authorities of DevID certificates, PEM"),
          endorsement_ca_path: text("Authorities of TPM makers, PEM"),
        },
        {
          check: required(
            ["devid_ca_path", "devid_ca_path is required"],
            ["endorsement_ca_path", "endorsement_ca_path is required"],
          ),
        },
      ),
      http_challenge: plugin("A file that the node serves by HTTP", {
        allowed_dns_patterns: texts("Patterns of host names"),
        required_port: integer("Port that must be used"),
        allow_non_root_ports: truth("Allows ports above 1023", { default: "true" }),
        tofu: truth("A host name attests once", { default: "true" }),
      }),
      k8s_psat: plugin(
        "Kubernetes service account tokens",
        {
          clusters: named("Clusters", {
            service_account_allow_list: texts("`namespace:name` of accounts"),
            audience: texts("Audiences of tokens", { default: '["spire-server"]' }),
            kube_config_file: text("Access to the cluster"),
            allowed_node_label_keys: texts("Node labels that become selectors"),
            allowed_pod_label_keys: texts("Pod labels that become selectors"),
            use_pod_uid_for_agent_id: truth("Agents are named by pods", { default: "false" }),
          }),
        },
        { check: requireAny("clusters", "No clusters configured, PSAT attestation is effectively disabled") },
      ),
      aws_iid: plugin("AWS instances", {
        ...aws,
        partition: text("AWS partition", { default: "aws" }),
        assume_role: text("Role in other accounts"),
        skip_block_device: truth("Doesn't look at block devices", { default: "false" }),
        disable_instance_profile_selectors: truth("No selectors of roles", { default: "false" }),
        account_ids_for_local_validation: texts("Accounts that are not asked"),
        verify_organization: section("Accounts of an organization", {
          management_account_id: text("Its account"),
          management_account_region: text("Its region"),
          assume_org_role: text("Role in it"),
          org_account_map_ttl: duration("How long the list is kept"),
        }),
        validate_eks_cluster_membership: section("EKS clusters", { eks_cluster_names: texts("Their names") }),
        ...agentPath,
      }),
      gcp_iit: plugin(
        "Google Cloud instances",
        {
          projectid_allow_list: texts("Projects"),
          use_instance_metadata: truth("Asks for metadata", { default: "false" }),
          service_account_file: text("Service account, JSON"),
          allowed_label_keys: texts("Labels that become selectors"),
          allowed_metadata_keys: texts("Metadata that become selectors"),
          max_metadata_value_size: integer("Bytes of a metadata value at most", { default: "128" }),
          ...agentPath,
        },
        { check: requireAny("projectid_allow_list", "projectid_allow_list is required") },
      ),
      azure_msi: plugin(
        "Azure managed identities",
        {
          tenants: named("Tenants", {
            resource_id: text("Audience of tokens"),
            subscription_id: text("Subscription"),
            app_id: text("Application"),
            app_secret: text("Its secret"),
          }),
          ...agentPath,
        },
        { check: requireAny("tenants", "configuration must have at least one tenant") },
      ),
      azure_imds: plugin(
        "Azure instances",
        {
          tenants: named("Tenants by domain", {
            secret_auth: section("Authentication by secret", {
              app_id: text("Application"),
              app_secret: text("Secret"),
            }),
            token_auth: section("Authentication by token", {
              app_id: text("Application"),
              token_path: text("File"),
            }),
            restrict_to_subscriptions: texts("Subscriptions"),
            allowed_vm_tags: texts("Tags that become selectors"),
          }),
          allowed_metadata_domains: texts("Domains of metadata signatures"),
          trust_bundle_path: text("Authorities of Azure, PEM"),
          ...agentPath,
        },
        { check: requireAny("tenants", "configuration must have at least one tenant") },
      ),
    },
  },
  UpstreamAuthority: {
    least: 0,
    most: 1,
    plugins: {
      disk: plugin(
        "An authority in files, which are read anew for each CA",
        {
          cert_file_path: text("The CA that signs, then its intermediates, PEM; required"),
          key_file_path: text("Its private key, PEM; required"),
          bundle_file_path: text("Roots, PEM; required unless the CA is the root"),
        },
        { here: true, unknownKeys: "ignore", check: checkDiskUpstream },
      ),
      spire: plugin(
        "Another SPIRE server of the same trust domain",
        {
          server_address: text("Its host; required"),
          server_port: text("Its port; required"),
          workload_api_socket: text(
            "Workload API that gives this server its SVID, of an entry with `downstream`; required",
          ),
          experimental: section("Options that may change", {
            require_pq_kem: truth("Asks for post-quantum key exchange"),
            workload_api_named_pipe_name: text("Windows only"),
          }),
        },
        {
          here: true,
          unknownKeys: "ignore",
          check: checkSpireUpstream,
          notYet: (data) => (experimentalOf(data)["require_pq_kem"] === true ? "require_pq_kem" : undefined),
        },
      ),
      vault: plugin("HashiCorp Vault", {
        pki_mount_point: text("Mount point of PKI", { default: "pki" }),
        ...vaultAccess,
      }),
      aws_pca: plugin("AWS Private CA", {
        region: text("AWS region"),
        certificate_authority_arn: text("The authority"),
        ca_signing_template_arn: text("Template"),
        signing_algorithm: text("Signature algorithm"),
        assume_role_arn: text("Role"),
        endpoint: text("Endpoint"),
        supplemental_bundle_path: text("More roots, PEM"),
      }),
      awssecret: plugin("AWS Secrets Manager", {
        ...aws,
        cert_file_arn: text("Certificate"),
        key_file_arn: text("Private key"),
        bundle_file_arn: text("Roots"),
        assume_role_arn: text("Role"),
        secret_access_key: text("AWS secret key"),
        security_token: text("AWS session token"),
      }),
      gcp_cas: plugin("Google Cloud CA Service", {
        root_cert_spec: section("The authorities", {
          project_name: text("Project"),
          region_name: text("Region"),
          ca_pool: text("Pool"),
          label_key: text("Label of the authority to use"),
          label_value: text("Its value"),
        }),
      }),
      "cert-manager": plugin("Kubernetes cert-manager", {
        namespace: text("Namespace"),
        issuer_name: text("Issuer"),
        issuer_kind: text("Its kind", { default: "Issuer" }),
        issuer_group: text("Its group", { default: "cert-manager.io" }),
        kube_config_file: text("Access to the cluster"),
      }),
    },
  },
  CredentialComposer: {
    least: 0,
    most: many,
    plugins: {
      uniqueid: plugin(
        "Adds x500UniqueIdentifier to the subjects of workloads",
        {},
        { here: true, unknownKeys: "ignore" },
      ),
    },
  },
  Notifier: {
    least: 0,
    most: many,
    plugins: {
      k8sbundle: plugin("Bundle to Kubernetes", {
        namespace: text("Namespace", { default: "spire" }),
        config_map: text("ConfigMap", { default: "spire-bundle" }),
        config_map_key: text("Its key", { default: "bundle.crt" }),
        kube_config_file_path: text("Access to the cluster"),
        api_service_label: text("Label of API services"),
        webhook_label: text("Label of webhooks"),
        clusters: z.array(z.record(z.string(), z.string())).optional().meta({ description: "More clusters" }),
      }),
      gcs_bundle: plugin("Bundle to Google Cloud Storage", {
        bucket: text("Bucket"),
        object_path: text("Object"),
        service_account_file: text("Service account, JSON"),
      }),
    },
  },
  BundlePublisher: {
    least: 0,
    most: many,
    plugins: {
      aws_s3: plugin("Bundle to AWS S3", {
        ...aws,
        bucket: text("Bucket"),
        object_key: text("Object"),
        endpoint: text("Endpoint"),
        ...publishing,
      }),
      gcp_cloudstorage: plugin("Bundle to Google Cloud Storage", {
        bucket_name: text("Bucket"),
        object_name: text("Object"),
        service_account_file: text("Service account, JSON"),
        ...publishing,
      }),
      azure_blob: plugin("Bundle to Azure Blob Storage", {
        ...azureApp,
        account_name: text("Storage account"),
        container_name: text("Container"),
        blob_name: text("Blob"),
        service_endpoint: text("Endpoint"),
        ...publishing,
      }),
      aws_rolesanywhere_trustanchor: plugin("Bundle to AWS Roles Anywhere", {
        ...aws,
        trust_anchor_id: text("Trust anchor"),
      }),
      k8s_configmap: plugin("Bundle to Kubernetes", {
        clusters: named("Clusters", {
          configmap_name: text("ConfigMap"),
          configmap_key: text("Its key"),
          namespace: text("Namespace"),
          kubeconfig_path: text("Access to the cluster"),
          ...publishing,
        }),
      }),
    },
  },
};
