import { Code, ConnectError } from "@connectrpc/connect";
import { Metadata } from "@grpc/grpc-js";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/ts/google/rpc/error_details_pb.ts";
import { codeOf, FAULT_DOMAIN, faultOf, toConnectError } from "../../src/api/faults.ts";
import { FAULT_REASONS, Fault } from "../../src/std/faults.ts";
import { Violation } from "../../src/std/violation.ts";

describe("toConnectError", () => {
  it("gives every reason a code that is an error", () => {
    for (const reason of FAULT_REASONS) expect(codeOf(reason), reason).toBeGreaterThan(0);
  });

  it.each([
    ["TOKEN_INVALID", Code.Unauthenticated],
    ["NAME_INVALID", Code.InvalidArgument],
    ["CODE_NOT_PINNED", Code.InvalidArgument],
    ["APPROVER_NOT_HUMAN", Code.PermissionDenied],
    ["REQUEST_ID_REUSED", Code.AlreadyExists],
    ["ETAG_MISMATCH", Code.Aborted],
    ["BATCH_GAP", Code.OutOfRange],
    ["ERASED", Code.NotFound],
    ["RATE_LIMITED", Code.ResourceExhausted],
    ["NOT_WRITER", Code.Unavailable],
    ["RUN_NOT_RUNNING", Code.FailedPrecondition],
  ] as const)("maps %s", (reason, code) => {
    expect(toConnectError(new Fault(reason, "do this next")).code).toBe(code);
  });

  it("tells what a fault knows, and faultOf reads it back", () => {
    const fault = new Fault("RATE_LIMITED", "wait, then try again", {
      metadata: { limit: "10/s" },
      fields: [{ field: "page.size", description: "at most 100" }],
      retryAfterMs: 1_500,
    });
    const error = toConnectError(fault);
    expect(error.findDetails(ErrorInfoSchema)[0]).toMatchObject({ reason: "RATE_LIMITED", domain: FAULT_DOMAIN });
    expect(faultOf(error)).toEqual({
      reason: "RATE_LIMITED",
      code: Code.ResourceExhausted,
      message: "wait, then try again",
      metadata: { limit: "10/s" },
      fields: [{ field: "page.size", description: "at most 100" }],
      retryAfterMs: 1_500,
    });
  });

  it("says of a violation which check failed", () => {
    expect(faultOf(toConnectError(new Violation("record.digest", "digest differs")))).toMatchObject({
      code: Code.InvalidArgument,
      reason: "REQUEST_INVALID",
      message: "digest differs",
      metadata: { code: "record.digest" },
    });
  });

  it.each([new Error("password=hunter2 at /srv/x.ts"), new TypeError("hunter2"), "hunter2", { hunter2: 1 }, undefined])(
    "leaks nothing of a bug: %s",
    (thrown) => {
      const error = toConnectError(thrown);
      expect(error.code).toBe(Code.Internal);
      if (thrown !== undefined) expect(error.cause).toBe(thrown);
      expect(JSON.stringify([error.message, error.findDetails(ErrorInfoSchema), [...error.metadata]])).not.toContain(
        "hunter2",
      );
      expect(faultOf(error)?.reason).toBe("INTERNAL");
    },
  );

  it("leaves a ConnectError as it is", () => {
    const error = new ConnectError("not here", Code.Unimplemented);
    expect(toConnectError(error)).toBe(error);
  });

  it("tells a cancellation from a deadline", () => {
    expect(toConnectError(AbortSignal.abort().reason).code).toBe(Code.Canceled);
    expect(toConnectError(new DOMException("late", "TimeoutError")).code).toBe(Code.DeadlineExceeded);
  });

  it("keeps details small enough for a trailer, and well-formed", () => {
    const fields = Array.from({ length: 1_000 }, (_, i) => ({ field: `f${i}`, description: "x".repeat(10_000) }));
    const error = toConnectError(new Fault("REQUEST_INVALID", `\ud800${"m".repeat(100_000)}`, { fields }));
    expect(error.rawMessage.isWellFormed()).toBe(true);
    expect(error.rawMessage.length).toBeLessThanOrEqual(1_024);
    const [request] = error.findDetails(BadRequestSchema);
    expect(JSON.stringify(request?.fieldViolations).length).toBeLessThan(8_192);
  });
});

describe("faultOf", () => {
  const serviceError = (bytes: Buffer): Error => {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", bytes);
    return Object.assign(new Error("x"), { code: 13, details: "x", metadata });
  };

  it("is undefined for an error from elsewhere", () => {
    expect(faultOf(new Error("socket hang up"))).toBeUndefined();
    expect(faultOf(new ConnectError("gateway", Code.Unavailable))).toBeUndefined();
    expect(faultOf(undefined)).toBeUndefined();
  });

  it("takes any bytes for a status", () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => faultOf(serviceError(Buffer.from(bytes))) === undefined));
  });
});
