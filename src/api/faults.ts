/**
 * The one place where faults meet RPC codes: reasons become codes with `google.rpc` details on the way out, and are read
 * back out of a client's error.
 *
 * - Every reason stands in the table; one that is missing does not compile.
 * - What is not a Fault, a Violation or a ConnectError is a bug: the caller learns INTERNAL and nothing else, the cause stays
 *   on the error for the log.
 * - Details travel in an HTTP/2 trailer, which clients limit to 8 KiB: texts and lists are cut here.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type BadRequest,
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../gen/ts/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../gen/ts/google/rpc/status_pb.ts";
import { Fault, type FaultReason, type FieldViolation } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";

export const FAULT_DOMAIN = "datapilot";

const MAX_MESSAGE_CHARS = 1_024;
const MAX_METADATA_ENTRIES = 16;
const MAX_METADATA_CHARS = 256;
const MAX_FIELDS = 16;
const MAX_DESCRIPTION_CHARS = 256;

const CODES = {
  ADDRESS_INVALID: Code.InvalidArgument,
  ALIAS_RESERVED: Code.InvalidArgument,
  ALREADY_EXISTS: Code.AlreadyExists,
  ALREADY_VOTED: Code.AlreadyExists,
  APPROVAL_CLOSED: Code.FailedPrecondition,
  APPROVAL_MISMATCH: Code.FailedPrecondition,
  APPROVAL_REQUIRED: Code.FailedPrecondition,
  APPROVER_IS_AUTHOR: Code.PermissionDenied,
  APPROVER_NOT_ELIGIBLE: Code.PermissionDenied,
  APPROVER_NOT_HUMAN: Code.PermissionDenied,
  ARTIFACT_NOT_FOUND: Code.FailedPrecondition,
  ARTIFACT_NOT_UPLOADED: Code.FailedPrecondition,
  AS_OF_AHEAD: Code.OutOfRange,
  BATCHES_INCOMPLETE: Code.FailedPrecondition,
  BATCH_GAP: Code.OutOfRange,
  BINDING_TOO_BROAD: Code.InvalidArgument,
  CHILDREN_ACTIVE: Code.FailedPrecondition,
  CODE_NOT_PINNED: Code.InvalidArgument,
  CROSS_PROJECT_DENIED: Code.PermissionDenied,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  DIGEST_MISMATCH: Code.FailedPrecondition,
  ERASED: Code.NotFound,
  ETAG_MISMATCH: Code.Aborted,
  IDENTITY_TAKEN: Code.AlreadyExists,
  IMAGE_NOT_PINNED: Code.InvalidArgument,
  INPUT_MISMATCH: Code.FailedPrecondition,
  INTERNAL: Code.Internal,
  KEY_NOT_ENDORSED: Code.FailedPrecondition,
  LIMIT_EXCEEDED: Code.ResourceExhausted,
  LOCK_EMPTY: Code.InvalidArgument,
  NAME_INVALID: Code.InvalidArgument,
  NOT_FOUND: Code.NotFound,
  NOT_WRITER: Code.Unavailable,
  NO_ADMIN: Code.FailedPrecondition,
  ORIGIN_FIXED: Code.FailedPrecondition,
  OUTPUT_NOT_FROM_RUN: Code.FailedPrecondition,
  PARAM_CONFLICT: Code.AlreadyExists,
  PARENT_NOT_RUNNING: Code.FailedPrecondition,
  PERMISSION_DENIED: Code.PermissionDenied,
  POLICY_DENIED: Code.PermissionDenied,
  POLICY_ERROR: Code.FailedPrecondition,
  POLICY_INVALID: Code.InvalidArgument,
  POLICY_TEST_FAILED: Code.InvalidArgument,
  PROJECT_ARCHIVED: Code.FailedPrecondition,
  PROVENANCE_REQUIRED: Code.FailedPrecondition,
  RATE_LIMITED: Code.ResourceExhausted,
  REAUTHENTICATION_REQUIRED: Code.Unauthenticated,
  REPLICA_BEHIND: Code.Unavailable,
  REQUEST_ID_REUSED: Code.AlreadyExists,
  REQUEST_INVALID: Code.InvalidArgument,
  RETENTION_SHORTENED: Code.FailedPrecondition,
  RETRY_OF_ACTIVE: Code.FailedPrecondition,
  RUNS_ACTIVE: Code.FailedPrecondition,
  RUN_NOT_PLANNED: Code.FailedPrecondition,
  RUN_NOT_RUNNING: Code.FailedPrecondition,
  RUN_NOT_SUCCEEDED: Code.FailedPrecondition,
  SCOPE_EXCEEDS_ISSUER: Code.PermissionDenied,
  SELF_GRANT: Code.PermissionDenied,
  STATE_CHANGED: Code.Aborted,
  STEPS_INCOMPLETE: Code.FailedPrecondition,
  STEP_NOT_READY: Code.FailedPrecondition,
  STEP_UNKNOWN: Code.FailedPrecondition,
  STORE_UNAVAILABLE: Code.Unavailable,
  TOKEN_INVALID: Code.Unauthenticated,
  TRANSITION_NOT_ALLOWED: Code.FailedPrecondition,
  TYPE_UNKNOWN: Code.InvalidArgument,
  // The server stops being the writer while it works: the next writer answers the same request.
  WRITER_LOST: Code.Unavailable,
} as const satisfies Record<FaultReason, Code>;

/** The RPC code of a reason. */
export function codeOf(reason: FaultReason): Code {
  return CODES[reason];
}

/** Any thrown value as the error that the caller sees. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof Fault) return fromFault(error);
  if (error instanceof Violation) {
    return fromFault(new Fault("REQUEST_INVALID", error.message, { metadata: { code: error.code }, cause: error }));
  }
  if (error instanceof Error && error.name === "AbortError") {
    return new ConnectError("the call was cancelled", Code.Canceled, undefined, undefined, error);
  }
  if (error instanceof Error && error.name === "TimeoutError") {
    return fromFault(new Fault("DEADLINE_EXCEEDED", "the deadline passed before the work was done", { cause: error }));
  }
  return fromFault(new Fault("INTERNAL", "internal error; the server's log has the cause", { cause: error }));
}

function fromFault(fault: Fault): ConnectError {
  const metadata = Object.fromEntries(
    Object.entries(fault.metadata)
      .slice(0, MAX_METADATA_ENTRIES)
      .map(([key, value]) => [key, cut(value, MAX_METADATA_CHARS)]),
  );
  const error = new ConnectError(
    cut(fault.message, MAX_MESSAGE_CHARS),
    CODES[fault.reason],
    undefined,
    undefined,
    fault.cause ?? fault,
  );
  error.details.push({ desc: ErrorInfoSchema, value: { reason: fault.reason, domain: FAULT_DOMAIN, metadata } });
  if (fault.fields.length > 0) {
    const fieldViolations = fault.fields.slice(0, MAX_FIELDS).map(({ field, description }) => ({
      field: cut(field, MAX_DESCRIPTION_CHARS),
      description: cut(description, MAX_DESCRIPTION_CHARS),
    }));
    error.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (fault.retryAfterMs !== undefined) {
    error.details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(Math.ceil(fault.retryAfterMs)) } });
  }
  return error;
}

/** At most `max` UTF-16 units, well-formed: `grpc-message` cannot carry half a surrogate pair. */
function cut(text: string, max: number): string {
  return (text.length > max ? `${text.slice(0, max - 1)}…` : text).toWellFormed();
}

/** What a client reads out of an error of this service. */
export interface RemoteFault {
  /** A FaultReason; a newer server may know more of them. */
  readonly reason: string;
  readonly code: Code;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fields: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;
}

/** The part of grpc-js's ServiceError that is read here. */
interface ServiceErrorLike {
  readonly code: number;
  readonly details: string;
  readonly metadata: { get(key: string): readonly (string | Uint8Array)[] };
}

/** The fault inside a client's ConnectError or grpc-js ServiceError; undefined for an error that did not come from this service. */
export function faultOf(error: unknown): RemoteFault | undefined {
  const connectError = error instanceof ConnectError ? error : fromServiceError(error);
  const info = connectError?.findDetails(ErrorInfoSchema).find((d) => d.domain === FAULT_DOMAIN);
  if (connectError === undefined || info === undefined) return undefined;
  const retryDelay = connectError.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason: info.reason,
    code: connectError.code,
    message: connectError.rawMessage,
    metadata: info.metadata,
    fields: connectError
      .findDetails(BadRequestSchema)
      .flatMap((d: BadRequest) => d.fieldViolations.map(({ field, description }) => ({ field, description }))),
    retryAfterMs: retryDelay === undefined ? undefined : durationMs(retryDelay),
  };
}

function fromServiceError(error: unknown): ConnectError | undefined {
  if (!isServiceError(error)) return undefined;
  const connectError = new ConnectError(error.details, error.code);
  const bytes = error.metadata.get("grpc-status-details-bin")[0];
  if (!(bytes instanceof Uint8Array)) return connectError;
  try {
    connectError.details = fromBinary(StatusSchema, bytes).details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
      value,
    }));
  } catch {
    // Whatever a proxy made of the trailer: the code and the message still stand.
  }
  return connectError;
}

function isServiceError(error: unknown): error is ServiceErrorLike {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "number" &&
    "details" in error &&
    typeof error.details === "string" &&
    "metadata" in error &&
    typeof error.metadata === "object" &&
    error.metadata !== null &&
    "get" in error.metadata
  );
}
