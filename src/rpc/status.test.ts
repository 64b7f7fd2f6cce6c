import { expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError, type StatusName, statusCodes } from "../core/errors.ts";
import { errorOf, statusOf } from "./status.ts";

const codes = Object.keys(statusCodes).filter((code): code is StatusName => code !== "OK");

test("an error survives the way over the wire with code, message and details", () => {
  const anyError = fc.record({
    code: fc.constantFrom(...codes),
    message: fc.string(),
    details: fc.array(fc.record({ typeUrl: fc.string(), value: fc.uint8Array() })),
  });
  fc.assert(
    fc.property(anyError, ({ code, message, details }) => {
      const received = errorOf(statusOf(new SpireError(code, message, { details })));
      expect(received.code).toBe(code);
      expect(received.message).toBe(message);
      expect(received.details.map(({ typeUrl, value }) => ({ typeUrl, value: [...value] }))).toEqual(
        details.map(({ typeUrl, value }) => ({ typeUrl, value: [...value] })),
      );
    }),
  );
});

test("details that can't be read are left out, whatever they are", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (garbage) => {
      const status = statusOf(new SpireError("ABORTED", "no"));
      status.metadata.set("grpc-status-details-bin", Buffer.from(garbage));
      expect(errorOf(status).code).toBe("ABORTED");
    }),
  );
});

test("a number that gRPC doesn't know is UNKNOWN", () => {
  const status = statusOf(new SpireError("ABORTED", "no"));
  expect(errorOf(Object.assign(status, { code: 99 })).code).toBe("UNKNOWN");
});
