/** Who signs a server's CA and who has a say in credentials: raw plugin blocks > settings. */
import type { PluginConfig } from "./plugins.ts";
import type { CredentialComposerConfig, ServerConfig, UpstreamAuthorityConfig } from "./server-config.ts";

/** Of enabled plugins whose options hold; those that don't run here are refused elsewhere. */
export function readIssuance(
  plugins: readonly PluginConfig[],
): Pick<ServerConfig, "upstreamAuthority" | "credentialComposers"> {
  const upstream = plugins.find(({ kind }) => kind === "UpstreamAuthority");
  const upstreamAuthority = upstream && readUpstream(upstream);
  return {
    ...(upstreamAuthority && { upstreamAuthority }),
    credentialComposers: plugins.filter(({ kind }) => kind === "CredentialComposer").flatMap(readComposer),
  };
}

function readUpstream({ name, data }: PluginConfig): UpstreamAuthorityConfig | undefined {
  const option = (key: string): string => String(data.value[key] ?? "");
  if (name === "disk") {
    const bundleFilePath = option("bundle_file_path");
    return {
      type: name,
      certFilePath: option("cert_file_path"),
      keyFilePath: option("key_file_path"),
      ...(bundleFilePath !== "" && { bundleFilePath }),
    };
  }
  if (name !== "spire") return undefined;
  const serverAddress = `${option("server_address")}:${option("server_port")}`;
  return { type: name, serverAddress, workloadApiSocket: option("workload_api_socket") };
}

const readComposer = ({ name }: PluginConfig): readonly CredentialComposerConfig[] =>
  name === "uniqueid" ? [{ type: name }] : [];
