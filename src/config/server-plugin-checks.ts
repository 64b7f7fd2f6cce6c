/** What server plugins say of options that don't hold together, in the words of SPIRE's. */
import { z } from "zod";

/** A plugin's options, as they stand in the file. */
type Data = Readonly<Record<string, unknown>>;

/** Each option that is missing or empty, by its message. */
export const required =
  (...messages: readonly (readonly [option: string, message: string])[]) =>
  (data: Data): readonly string[] =>
    messages.filter(([option]) => (data[option] ?? "") === "").map(([, message]) => message);

const databases = ["sqlite3", "postgres", "mysql", "aws_postgres", "aws_mysql"];

/** `database_type "aws_mysql" {…}` is a block. */
export const nameOfType = (type: unknown): string =>
  typeof type === "object" && type !== null ? (Object.keys(type)[0] ?? "") : String(type ?? "");

export function checkDatabase(data: Data): readonly string[] {
  if (data["database_type"] === undefined) return ["malformed database type configuration"];
  const missing = required(
    ["database_type", "datastore-sql: database_type must be set"],
    ["connection_string", "datastore-sql: connection_string must be set"],
  )(data);
  const type = nameOfType(data["database_type"]);
  if (missing.length > 0) return missing;
  if (!databases.includes(type))
    return [
      typeof data["database_type"] === "string"
        ? `datastore-sql: unsupported database_type: ${type}`
        : `unknown database type: ${type}`,
    ];
  if (type.startsWith("aws_") && !regionOf(data["database_type"], type))
    return ["datastore-sql: region must be specified"];
  return type.endsWith("mysql") ? checkMysql(data) : [];
}

const namedBlocks = z.record(z.string(), z.object({ region: z.string().optional() }));

const regionOf = (types: unknown, type: string): string | undefined =>
  namedBlocks.safeParse(types).data?.[type]?.region;

/** What the driver says of a data source name. */
function checkMysql(data: Data): readonly string[] {
  const name = String(data["connection_string"]);
  if (!name.includes("/"))
    return ["datastore-sql: invalid DSN: missing the slash separating the database name"];
  if (/[?&]parseTime=(true|1)(&|$)/i.test(name)) return [];
  return ["datastore-sql: invalid mysql config: missing parseTime=true param in connection_string"];
}

/** Of a key manager that keeps its keys in a service. */
export const keyServiceCheck =
  (...messages: readonly (readonly [option: string, message: string])[]) =>
  (data: Data): readonly string[] => [
    ...required(...messages)(data),
    ...(data["key_identifier_file"] || data["key_identifier_value"]
      ? []
      : ["configuration requires a key identifier file or a key identifier value"]),
  ];

/** For a section that must have something in it. */
export const requireAny =
  (option: string, message: string) =>
  (data: Data): readonly string[] => {
    const value = data[option];
    return typeof value === "object" && value !== null && Object.keys(value).length > 0 ? [] : [message];
  };

export const checkDiskUpstream = ({ cert_file_path: cert, key_file_path: key }: Data): readonly string[] =>
  cert && key ? [] : ["'cert_file_path' and 'key_file_path' must be set and not empty"];

export const experimentalOf = ({ experimental }: Data): Data =>
  typeof experimental === "object" && experimental !== null ? { ...experimental } : {};

export function checkSpireUpstream(data: Data): readonly string[] {
  const port = String(data["server_port"] ?? "");
  return [
    ...required(
      ["server_address", "server_address is required"],
      ["server_port", "server_port is required"],
    )(data),
    ...(port === "" || (/^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65_536)
      ? []
      : [`server_port must be a port number, not ${port}`]),
    ...(experimentalOf(data)["workload_api_named_pipe_name"]
      ? [
          "configuration: workload_api_named_pipe_name is not supported on this platform; please use workload_api_socket instead",
        ]
      : []),
    ...required(["workload_api_socket", "workload_api_socket is required"])(data),
  ];
}
