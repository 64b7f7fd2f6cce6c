/**
 * Our .proto files say the same as the tables of the wire format in test/golden/wire: every service, method,
 * message, field, number, type, label, oneof and enum value, and nothing besides.
 */
import { describe, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescService,
  fromBinary,
  ScalarType,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { installed, root, run } from "../../scripts/run.ts";

const tables = join(root, "test", "golden", "wire");

/** Block heading, such as `message a.B`, > its lines in order, spaces collapsed. */
type Blocks = ReadonlyMap<string, readonly string[]>;

function readTable(text: string): Blocks {
  const blocks = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/).join(" ");
    if (words === "" || line.startsWith("#")) continue;
    if (/^(service|message|enum) /.test(line)) {
      current = [];
      blocks.set(words, current);
    } else {
      current.push(words);
    }
  }
  return blocks;
}

const typeName = (field: DescField): string => {
  if (field.fieldKind === "map") {
    const value = field.mapKind === "scalar" ? scalarName(field.scalar) : namedType(field);
    return `map<${scalarName(field.mapKey)}, ${value}>`;
  }
  const element = field.scalar === undefined ? namedType(field) : scalarName(field.scalar);
  if (field.fieldKind === "list") return `repeated ${element}`;
  return field.proto.proto3Optional ? `optional ${element}` : element;
};

const scalarName = (scalar: ScalarType): string => (ScalarType[scalar] ?? "").toLowerCase();

const namedType = (field: DescField): string => field.message?.typeName ?? field.enum?.typeName ?? "?";

const fieldLine = (field: DescField): string =>
  `${field.number} ${field.name} ${typeName(field)}${field.oneof ? ` (oneof ${field.oneof.name})` : ""}`;

function serviceLines(service: DescService): string[] {
  const side = (streams: boolean, message: DescMessage) => `(${streams ? "stream " : ""}${message.typeName})`;
  return service.methods.map(({ name, input, output, proto }) => {
    const [request, response] = [side(proto.clientStreaming, input), side(proto.serverStreaming, output)];
    return `rpc ${name} ${request} returns ${response}`;
  });
}

const enumLines = (type: DescEnum): string[] => type.values.map(({ number, name }) => `${number} ${name}`);

/** Packages that the tables don't have: those that come with protobuf or gRPC, and our own. */
const outside = /^(google|grpc|spire\.server)\./;

/** What proto/ says, in the form of the tables. */
async function readProtoFiles(): Promise<Blocks> {
  const work = await mkdtemp(join(tmpdir(), "spire-wire-"));
  try {
    const binary = join(work, "set.binpb");
    await run([installed("buf"), "build", "-o", binary]);
    const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, await readFile(binary)));
    const blocks = new Map<string, readonly string[]>();
    for (const type of registry) {
      if (outside.test(type.typeName)) continue;
      if (type.kind === "message") blocks.set(`message ${type.typeName}`, type.fields.map(fieldLine));
      if (type.kind === "service") blocks.set(`service ${type.typeName}`, serviceLines(type));
      if (type.kind === "enum") blocks.set(`enum ${type.typeName}`, enumLines(type));
    }
    return blocks;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Order within a block carries no meaning on the wire. */
const sorted = (blocks: Blocks): Record<string, readonly string[]> =>
  Object.fromEntries([...blocks].map(([heading, lines]) => [heading, [...lines].sort()]));

describe("the wire format", async () => {
  const files = (await readdir(tables)).sort();
  const tableOf = async (file: string) => readTable(await readFile(join(tables, file), "utf8"));
  const ours = await readProtoFiles();

  for (const file of files) {
    test(`agrees with ${file}`, async () => {
      const expected = await tableOf(file);
      expect(expected.size).toBeGreaterThan(0);
      const actual = new Map(
        [...expected.keys()].map((heading) => [heading, ours.get(heading) ?? ["missing"]]),
      );
      expect(sorted(actual)).toEqual(sorted(expected));
    });
  }

  test("has nothing that the tables do not name", async () => {
    const named = new Set((await Promise.all(files.map(tableOf))).flatMap((table) => [...table.keys()]));
    const extra = [...ours.keys()].filter((heading) => !named.has(heading));
    expect(extra).toEqual([]);
  });
});
