/**
 * The faults that callers may meet: each has a stable reason (`ErrorInfo.reason`, domain `datapilot`) and a message that says
 * what to do next. The edge maps reasons to RPC codes in one table (`api/faults.ts`).
 */
export const FAULT_REASONS = [
  "ADDRESS_INVALID",
  "ALIAS_RESERVED",
  "ALREADY_EXISTS",
  "ALREADY_VOTED",
  "APPROVAL_CLOSED",
  "APPROVAL_MISMATCH",
  "APPROVAL_REQUIRED",
  "APPROVER_IS_AUTHOR",
  "APPROVER_NOT_ELIGIBLE",
  "APPROVER_NOT_HUMAN",
  "ARTIFACT_NOT_FOUND",
  "ARTIFACT_NOT_UPLOADED",
  "AS_OF_AHEAD",
  "BATCHES_INCOMPLETE",
  "BATCH_GAP",
  "BINDING_TOO_BROAD",
  "CHILDREN_ACTIVE",
  "CODE_NOT_PINNED",
  "CROSS_PROJECT_DENIED",
  "DEADLINE_EXCEEDED",
  "DIGEST_MISMATCH",
  "ERASED",
  "ETAG_MISMATCH",
  "IDENTITY_TAKEN",
  "IMAGE_NOT_PINNED",
  "INPUT_MISMATCH",
  "INTERNAL",
  "KEY_NOT_ENDORSED",
  "LIMIT_EXCEEDED",
  "LOCK_EMPTY",
  "NAME_INVALID",
  "NOT_FOUND",
  "NOT_WRITER",
  "NO_ADMIN",
  "ORIGIN_FIXED",
  "OUTPUT_NOT_FROM_RUN",
  "PARAM_CONFLICT",
  "PARENT_NOT_RUNNING",
  "PERMISSION_DENIED",
  "POLICY_DENIED",
  "POLICY_ERROR",
  "POLICY_INVALID",
  "POLICY_TEST_FAILED",
  "PROJECT_ARCHIVED",
  "PROVENANCE_REQUIRED",
  "RATE_LIMITED",
  "REAUTHENTICATION_REQUIRED",
  "REPLICA_BEHIND",
  "REQUEST_ID_REUSED",
  "REQUEST_INVALID",
  "RETENTION_SHORTENED",
  "RETRY_OF_ACTIVE",
  "RUNS_ACTIVE",
  "RUN_NOT_PLANNED",
  "RUN_NOT_RUNNING",
  "RUN_NOT_SUCCEEDED",
  "SCOPE_EXCEEDS_ISSUER",
  "SELF_GRANT",
  "STATE_CHANGED",
  "STEPS_INCOMPLETE",
  "STEP_NOT_READY",
  "STEP_UNKNOWN",
  "STORE_UNAVAILABLE",
  "TOKEN_INVALID",
  "TRANSITION_NOT_ALLOWED",
  "TYPE_UNKNOWN",
  "WRITER_LOST",
] as const;

export type FaultReason = (typeof FAULT_REASONS)[number];

export interface FieldViolation {
  /** Path of the field in the request, in proto field names. */
  readonly field: string;
  readonly description: string;
}

export interface FaultOptions {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fields?: readonly FieldViolation[];
  /** Milliseconds after which the same request may be tried again. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

export class Fault extends Error {
  override readonly name = "Fault";
  readonly reason: FaultReason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fields: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(reason: FaultReason, message: string, options: FaultOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.reason = reason;
    this.metadata = options.metadata ?? {};
    this.fields = options.fields ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }
}
