import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadAgent } from "./agent.ts";
import { convertText } from "./convert.ts";
import { jsonSchemaOf } from "./json-schema.ts";
import type { Override } from "./origin.ts";
import { notationOf, parseText } from "./parse.ts";
import { loadServer } from "./server.ts";
import { expandEnvironment } from "./text.ts";

const recorded = join(import.meta.dir, "../../test/golden/configs");
const names = readdirSync(recorded);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "config-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const sources = (path: string | undefined, overrides: readonly Override[] = []) => ({
  path,
  expandEnv: false,
  environment: {},
  overrides,
});

const server = (text: string, name = "v.conf") => loadServer(sources(write(name, text)));

const good = `server { trust_domain = "example.org" data_dir = "data" }
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "data/db" } }
  KeyManager "memory" {}
}
`;

describe("notations", () => {
  test.each(names)("%s means the same as YAML, as JSON, and as the HCL made of them", async (name) => {
    const text = readFileSync(join(recorded, name), "utf8");
    const load = (path: string) => (name.includes("agent") ? loadAgent : loadServer)(sources(path));
    const { config } = await load(join(recorded, name));
    for (const notation of ["yaml", "json", "hcl"] as const) {
      const converted = convertText(text, "hcl", notation);
      const path = write(`${name}.${notation}`, converted);
      expect((await load(path)).config).toEqual(config);
      const back = convertText(converted, notation, "hcl");
      expect((await load(write(`${name}.back.conf`, back))).config).toEqual(config);
    }
  });

  test("are told by the name for YAML, by the first character for JSON", () => {
    expect(notationOf("a.yaml", "{}")).toBe("yaml");
    expect(notationOf("a.yml", "")).toBe("yaml");
    expect(notationOf("a.conf", "\n {")).toBe("json");
    expect(notationOf("a.json", "server {}")).toBe("hcl");
  });

  test("plugins of one name survive as a list, in order", () => {
    const text =
      'server {}\nplugins {\n  Notifier "a" {\n    x = 1\n  }\n  Notifier "a" {\n    x = 2\n  }\n}\n';
    expect(JSON.parse(convertText(text, "hcl", "json"))).toMatchObject({
      plugins: { Notifier: [{ a: { x: 1 } }, { a: { x: 2 } }] },
    });
    expect(convertText(convertText(text, "hcl", "yaml"), "yaml", "hcl")).toBe(
      text.replace("server {}", "server {}"),
    );
  });

  test("places are those of the values, also in YAML and JSON", async () => {
    const yaml = "server:\n  trust_domain: EXAMPLE\n  data_dir: x\nplugins: {}\n";
    await expect(server(yaml, "v.yaml")).rejects.toThrow("v.yaml:2:17)");
    const json = '{\n "server": {"data_dir": "x",\n  "trust_domain": "EXAMPLE"}, "plugins": {}}';
    await expect(server(json, "v.json")).rejects.toThrow("v.json:3:19)");
  });

  test("texts with quotes, line ends and interpolation come out of HCL as they went in", () => {
    const value = 'a "b" \\ \n\t \x24{c("d")} é 😀 $';
    const text = convertText(JSON.stringify({ server: { data_dir: value } }), "json", "hcl");
    const [item] = parseText(text, "hcl").items;
    expect(item?.value).toMatchObject({ items: [{ value: { kind: "string", text: value } }] });
  });
});

describe("HCL's decoder", () => {
  test("takes the last of repeated texts, joins lists, and merges blocks", async () => {
    const { config } = await server(`${good}
      server { trust_domain = "two.test" admin_ids = ["spiffe://a/1"] ratelimit { signing = false } }
      Server { ADMIN_IDS = ["spiffe://a/2"] ratelimit { attestation = false } }`);
    expect(config).toMatchObject({
      trustDomain: "two.test",
      dataDir: "data",
      adminIds: ["spiffe://a/1", "spiffe://a/2"],
      rateLimit: { attestation: false, signing: false },
    });
  });

  test("takes numbers in quotes and texts without, and numbers of any base", async () => {
    const { config } = await server(`${good} server { bind_port = "0x1F91" data_dir = 5 }`);
    expect(config).toMatchObject({ bindPort: 8081, dataDir: "5" });
  });
});

describe("the environment", () => {
  const environment = { NAME: "value", A_1: "x" };

  test.each([
    ["$NAME/\x24{NAME}", "value/value"],
    ["$NAMES", ""],
    ["\x24{UNSET}-$A_1", "-x"],
    ["$$NAME $$", "$NAME $"],
    ['"$" $" \x24{}', '"$" $" '],
    ["${NAME", "NAME"],
    ["$1st", "st"],
  ])("expands %p to %p", (text, expanded) => {
    expect(expandEnvironment(text, environment)).toBe(expanded);
  });
});

describe("what isn't there", () => {
  test("keys that SPIRE ignores are warned of, with the nearest name", async () => {
    const { warnings, refusedKeys } = await server(
      `${good} server { experimental { event_timeuot = "1s" } "x" = 1 }`,
    );
    expect(refusedKeys).toEqual([]);
    expect(warnings).toEqual([
      expect.stringContaining(
        'v.conf:6:26: "event_timeuot" is unknown in experimental; did you mean "event_timeout"?',
      ),
      expect.stringContaining('"x" is unknown in server'),
    ]);
  });

  test("keys that SPIRE refuses are refused by section", async () => {
    const { refusedKeys } = await server(`${good} serber {} server { zed = 1 bogus = 2 }`);
    expect(refusedKeys).toMatchObject([
      { section: "top-level", keys: ["serber"] },
      { section: "server", keys: ["bogus", "zed"] },
    ]);
    expect(refusedKeys[0]?.sentences[0]).toEndWith(
      '"serber" is unknown in top-level; did you mean "server"?',
    );
  });

  test("options without effect are said to have none, unless they say what is so anyhow", async () => {
    const text = `${good} server { experimental { events_based_cache = true cache_reload_interval = "5s" } }`;
    expect((await server(text)).warnings).toEqual([
      expect.stringContaining("events_based_cache has no effect"),
    ]);
  });

  test("options that are off are no request", async () => {
    const text = `${good} server { audit_log_enabled = false prune_tofu_nodes = false } health_checks { live_path = "/" }`;
    expect((await server(text)).notYet).toEqual([]);
  });

  test("disabled plugins count for nothing", async () => {
    const text = good.replace("KeyManager", 'NodeAttestor "bogus" { enabled = false }\n  KeyManager');
    expect(await server(text)).toMatchObject({
      pluginProblems: [],
      notYet: [],
      config: { nodeAttestors: [] },
    });
  });
});

test("options of a plugin may stand in a file of their own", async () => {
  const path = write("disk.conf", 'keys_path = "k.json"');
  const text = good.replace('"memory" {}', `"disk" { plugin_data_file = "${path}" }`);
  expect((await server(text)).config.keyManager).toEqual({ type: "disk", keysPath: "k.json" });
});

describe("WIT-SVIDs", () => {
  const experimental = (options: string) => server(`${good} server { experimental { ${options} } }`);
  const on = 'feature_flags = ["wit-svid", "i_am_a_test_flag"]';

  test("are issued where the feature flag is set, with a warning for each flag", async () => {
    const { config, warnings } = await experimental(`${on} wit_issuer = "https://issuer.example"`);
    expect(config.wit).toEqual({ keyType: "ec-p256", issuer: "https://issuer.example" });
    expect(warnings).toEqual([
      'Developer feature flag "wit-svid" has been enabled',
      'Developer feature flag "i_am_a_test_flag" has been enabled',
    ]);
  });

  test("are not otherwise, whatever is said of them", async () => {
    for (const options of [
      'wit_issuer = "x" wit_key_type = "rsa-2048"',
      'feature_flags = ["i_am_a_test_flag"]',
    ]) {
      expect((await experimental(options)).config.wit).toBeUndefined();
    }
  });

  test("have authorities with keys of ca_key_type, unless they have a type of their own", async () => {
    const ca = 'ca_key_type = "rsa-2048"';
    expect((await server(`${good} server { ${ca} experimental { ${on} } }`)).config.wit?.keyType).toBe(
      "rsa-2048",
    );
    const own = `${good} server { ${ca} experimental { ${on} wit_key_type = "ec-p384" } }`;
    expect((await server(own)).config.wit?.keyType).toBe("ec-p384");
  });
});

test("agents are pruned where it is said after how long", async () => {
  const pruning = async (options: string) =>
    (await server(`${good} server { ${options} }`)).config.nodePruning;
  expect(await pruning("prune_tofu_nodes = true prune_attested_nodes_batch_size = 5")).toBeUndefined();
  const expiredFor = 'prune_attested_nodes_expired_for = "36h"';
  const usual = { expiredForMs: 36 * 3_600_000, batchSize: 1000, includeTofu: false };
  expect(await pruning(expiredFor)).toEqual(usual);
  expect(await pruning(`${expiredFor} prune_attested_nodes_batch_size = -1`)).toEqual(usual);
  expect(await pruning(`${expiredFor} prune_tofu_nodes = true prune_attested_nodes_batch_size = 5`)).toEqual({
    ...usual,
    batchSize: 5,
    includeTofu: true,
  });
});

test("federation becomes an endpoint and relationships", async () => {
  const { config } = await server(`${good} server { federation {
    bundle_endpoint { port = 1 refresh_hint = "10m" }
    federates_with "b.test" {
      bundle_endpoint_url = "https://b.test/x"
      bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://b.test/s" }
    }
  } }`);
  expect<unknown>(config.federation).toEqual({
    bundleEndpoint: { address: "0.0.0.0", port: 1, refreshHintSeconds: 600 },
    federatesWith: [
      {
        trustDomain: "b.test",
        bundleEndpointUrl: "https://b.test/x",
        profile: { type: "https_spiffe", endpointSpiffeId: "spiffe://b.test/s" },
      },
    ],
  });
});

test("without a file, everything is in the data directory", async () => {
  const overrides = [
    { path: "server.trust_domain", flag: "trustDomain", value: "example.org" },
    { path: "server.data_dir", flag: "dataDir", value: "data" },
  ];
  expect((await loadServer(sources(undefined, overrides))).config).toMatchObject({
    keyManager: { type: "disk", keysPath: "data/keys.json" },
    dataStore: { type: "sqlite", path: "data/datastore.sqlite3" },
    nodeAttestors: [{ type: "join_token" }],
  });
});

test("the JSON Schema names every section, and nothing of ours", () => {
  for (const program of ["server", "agent"] as const) {
    const schema = jsonSchemaOf(program);
    expect(schema).toMatchObject({
      additionalProperties: false,
      properties: {
        [program]: { additionalProperties: false },
        plugins: {},
        telemetry: {},
        health_checks: {},
      },
    });
    expect(JSON.stringify(schema)).not.toMatch(/"(notYet|noEffect|unknownKeys|initial)"/);
  }
});
