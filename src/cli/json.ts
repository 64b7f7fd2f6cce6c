/** Answers in protobuf's JSON mapping, with the .proto files' field names and every field shown, as SPIRE prints them. */
import {
  createFileRegistry,
  type FileRegistry,
  fromBinary,
  type JsonValue,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { SpireError } from "../core/errors.ts";
import { descriptorSet } from "../rpc/gen/descriptor-set.ts";
import type { Reply } from "./print.ts";

/** @throws SpireError INTERNAL for a method that the descriptors lack. */
export function replyToJson({ method, message }: Reply): JsonValue {
  const registry = loadRegistry();
  const [, service = "", name = ""] = method.path.split("/");
  const output = registry.getService(service)?.methods.find((candidate) => candidate.name === name)?.output;
  if (!output) throw new SpireError("INTERNAL", `no descriptor of ${method.path}`);
  const bytes = method.responseSerialize(message as never);
  return toJson(output, fromBinary(output, bytes), {
    useProtoFieldName: true,
    alwaysEmitImplicit: true,
    registry,
  });
}

const loadRegistry = (): FileRegistry =>
  createFileRegistry(fromBinary(FileDescriptorSetSchema, Buffer.from(descriptorSet, "base64")));
