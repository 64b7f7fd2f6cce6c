/** SpireError to gRPC status and back, with its details in `grpc-status-details-bin`. */
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { Metadata, type StatusObject } from "@grpc/grpc-js";
import { type ErrorDetail, SpireError, type StatusName, statusCodes } from "../core/errors.ts";

/** Trailer with an encoded `google.rpc.Status` (https://grpc.io/docs/guides/error/#richer-error-model). */
const detailsKey = "grpc-status-details-bin";

const statusNames: ReadonlyMap<number, StatusName> = new Map(
  Object.entries(statusCodes)
    .filter((pair): pair is [StatusName, Exclude<(typeof statusCodes)[StatusName], 0>] => pair[0] !== "OK")
    .map(([name, code]) => [code, name]),
);

/** The name of a gRPC status number; a number that gRPC doesn't know, and OK, are UNKNOWN. */
const statusName = (code: number): StatusName => statusNames.get(code) ?? "UNKNOWN";

/** What grpc-js sends for a failed call. */
export function statusOf(error: SpireError): StatusObject {
  const metadata = new Metadata();
  if (error.details.length > 0) metadata.set(detailsKey, Buffer.from(encodeStatus(error)));
  return { code: statusCodes[error.code], details: error.message, metadata };
}

/** The error that a client's call ended with; details that can't be read are left out. */
export function errorOf(status: Pick<StatusObject, "code" | "details" | "metadata">): SpireError {
  const [encoded] = status.metadata?.get(detailsKey) ?? [];
  const details = encoded instanceof Uint8Array ? decodeDetails(encoded) : [];
  return new SpireError(statusName(status.code), status.details, { details });
}

/** `google.rpc.Status`: code = 1, message = 2, repeated `google.protobuf.Any` details = 3. */
function encodeStatus(error: SpireError): Uint8Array {
  const writer = new BinaryWriter();
  writer.uint32(8).int32(statusCodes[error.code]);
  writer.uint32(18).string(error.message);
  for (const detail of error.details) {
    writer.uint32(26).fork();
    writer.uint32(10).string(detail.typeUrl);
    writer.uint32(18).bytes(detail.value);
    writer.join();
  }
  return writer.finish();
}

function decodeDetails(encoded: Uint8Array): ErrorDetail[] {
  const details: ErrorDetail[] = [];
  try {
    const reader = new BinaryReader(encoded);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      if (tag === 26) details.push(decodeAny(reader.bytes()));
      else reader.skip(tag & 7);
    }
  } catch {
    return [];
  }
  return details;
}

function decodeAny(encoded: Uint8Array): ErrorDetail {
  const reader = new BinaryReader(encoded);
  let typeUrl = "";
  let value: Uint8Array = new Uint8Array();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 10) typeUrl = reader.string();
    else if (tag === 18) value = reader.bytes();
    else reader.skip(tag & 7);
  }
  return { typeUrl, value };
}
