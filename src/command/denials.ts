/**
 * Denials become records before they are answered (`docs/architecture.md`): who was refused what, where and why.
 *
 * - Recorded: faults of `RECORDED`. A refusal by policy is recorded as its decision; what is malformed, missing or overloaded is
 *   counted by metrics only.
 * - Nobody fills the ledger with refusals: of a principal's, ten a second are recorded one by one, the rest counted per
 *   project, reason and permission and recorded once a minute. Failed authentication is always counted, per network (/24 or
 *   /48), reason and minute; at most `MAX_GROUPS` such groups a minute, the rest as one.
 * - When a denial cannot be recorded, the caller learns that instead of the denial.
 * - An `access` record has its own request id: the refused request may be repeated when its cause is gone.
 */
import { create } from "@bufbuild/protobuf";
import { AccessAction, AccessSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { keys } from "../fold/view.ts";
import { HIDDEN } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { SYSTEM_PROJECT } from "../identity/ledger.ts";
import type { Log } from "../log/log.ts";
import type { Logger } from "../log/ports.ts";
import type { Draft } from "../log/submission.ts";
import { bodyFromMessage } from "../record/body.ts";
import type { Actor } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Fault, type FaultReason } from "../std/faults.ts";
import type { Clock, Random } from "../std/ports.ts";
import type { PersonalStore } from "./personal.ts";

const WINDOW_MS = 60_000;
const PER_SECOND = 10;
const MAX_GROUPS = 60;
/** Principals whose rate is remembered; the oldest is forgotten first. */
const MAX_PRINCIPALS = 10_000;
const OVERFLOW = "*";

/** Reasons that are recorded: PERMISSION_DENIED and FAILED_PRECONDITION by their codes, and REQUEST_ID_REUSED. */
const RECORDED: ReadonlySet<FaultReason> = new Set<FaultReason>([
  "APPROVAL_CLOSED",
  "APPROVAL_MISMATCH",
  "APPROVER_IS_AUTHOR",
  "APPROVER_NOT_ELIGIBLE",
  "APPROVER_NOT_HUMAN",
  "ARTIFACT_NOT_FOUND",
  "ARTIFACT_NOT_UPLOADED",
  "BATCHES_INCOMPLETE",
  "CHILDREN_ACTIVE",
  "CROSS_PROJECT_DENIED",
  "DIGEST_MISMATCH",
  "INPUT_MISMATCH",
  "KEY_NOT_ENDORSED",
  "NO_ADMIN",
  "ORIGIN_FIXED",
  "OUTPUT_NOT_FROM_RUN",
  "PARENT_NOT_RUNNING",
  "PERMISSION_DENIED",
  "PROJECT_ARCHIVED",
  "PROVENANCE_REQUIRED",
  "REQUEST_ID_REUSED",
  "RETENTION_SHORTENED",
  "RETRY_OF_ACTIVE",
  "RUNS_ACTIVE",
  "RUN_NOT_PLANNED",
  "RUN_NOT_RUNNING",
  "RUN_NOT_SUCCEEDED",
  "SCOPE_EXCEEDS_ISSUER",
  "SELF_GRANT",
  "STEPS_INCOMPLETE",
  "STEP_NOT_READY",
  "STEP_UNKNOWN",
  "TRANSITION_NOT_ALLOWED",
]);

/** Reasons that tell about rights: recorded even when only an answer was asked for. */
const ABOUT_RIGHTS: ReadonlySet<FaultReason> = new Set<FaultReason>(["CROSS_PROJECT_DENIED", "PERMISSION_DENIED"]);

export interface Denied {
  readonly caller: Caller;
  /** Absent when the request named none that exists. */
  readonly project?: RecordId | undefined;
  readonly permission?: string | undefined;
  readonly subjects?: readonly RecordId[];
  readonly validateOnly?: boolean;
}

interface Group {
  readonly actor: Actor;
  readonly project: RecordId;
  readonly rpc?: string;
  readonly reason: string;
  readonly permission?: string;
  readonly address?: string;
  readonly agent?: string;
  count: number;
}

interface Parts {
  readonly log: Log;
  readonly personal: PersonalStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

export class Denials implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #stop = new AbortController();
  readonly #rates = new Map<RecordId, { second: number; count: number }>();
  #counted = new Map<string, Group>();
  #unauthenticated = new Map<string, Group>();
  #timer: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Records what `error` refuses, when it is of a kind that is recorded; rejects when it cannot. */
  async record(error: unknown, denied: Denied): Promise<void> {
    if (!(error instanceof Fault)) return;
    // What a caller may not see is answered as NOT_FOUND and recorded as what it is.
    const reason = error.cause === HIDDEN ? "PERMISSION_DENIED" : error.reason;
    if (!RECORDED.has(reason) || (denied.validateOnly === true && !ABOUT_RIGHTS.has(reason))) return;
    const { caller } = denied;
    const group: Group = {
      actor: { method: caller.method, principal: caller.principal },
      project: denied.project ?? this.#system(),
      rpc: caller.rpc,
      reason,
      ...(denied.permission === undefined ? {} : { permission: denied.permission }),
      ...(caller.address === undefined ? {} : { address: caller.address }),
      ...(caller.agent === undefined ? {} : { agent: caller.agent }),
      count: 1,
    };
    if (this.#isRare(caller.principal)) {
      await this.#write(group, 0, denied.subjects ?? []);
      return;
    }
    this.#count(this.#counted, [caller.principal, group.project, reason, denied.permission ?? ""].join("/"), group);
  }

  /** Counts a failed authentication; `reason` says why, `rpc` what was asked. */
  countUnauthenticated(reason: string, origin: { readonly rpc: string; readonly address?: string }): void {
    const network = networkOf(origin.address);
    const group: Group = {
      actor: { method: "none" },
      project: this.#system(),
      rpc: origin.rpc,
      reason,
      address: network,
      count: 1,
    };
    const key = `${network}/${reason}`;
    if (this.#unauthenticated.has(key) || this.#unauthenticated.size < MAX_GROUPS) {
      this.#count(this.#unauthenticated, key, group);
    } else {
      this.#count(this.#unauthenticated, OVERFLOW, {
        actor: group.actor,
        project: group.project,
        reason: "OVERFLOW",
        count: 1,
      });
    }
  }

  /** Records what was counted, now instead of at the end of the minute. */
  async flush(): Promise<void> {
    const groups = [...this.#counted.values(), ...this.#unauthenticated.values()];
    this.#counted = new Map();
    this.#unauthenticated = new Map();
    for (const group of groups) await this.#write(group, WINDOW_MS, []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#timer;
    await this.flush();
  }

  #count(into: Map<string, Group>, key: string, group: Group): void {
    const known = into.get(key);
    if (known === undefined) into.set(key, group);
    else known.count += group.count;
    this.#timer ??= this.#flushAfterWindow();
  }

  async #flushAfterWindow(): Promise<void> {
    try {
      await this.#parts.clock.sleep(WINDOW_MS, this.#stop.signal);
    } catch {
      return; // Stopped: disposal flushes.
    }
    this.#timer = undefined;
    try {
      await this.flush();
    } catch (error) {
      this.#parts.logger.error({ error }, "counted denials could not be recorded");
    }
  }

  #isRare(principal: RecordId): boolean {
    const second = Math.floor(this.#parts.clock.now() / 1_000);
    const rate = this.#rates.get(principal);
    if (rate?.second === second) {
      rate.count += 1;
      return rate.count <= PER_SECOND;
    }
    this.#rates.delete(principal);
    if (this.#rates.size >= MAX_PRINCIPALS) {
      const [oldest] = this.#rates.keys();
      if (oldest !== undefined) this.#rates.delete(oldest);
    }
    this.#rates.set(principal, { second, count: 1 });
    return true;
  }

  #system(): RecordId {
    using reader = this.#parts.log.index.reader();
    return assertDefined(
      reader.get("name", keys.name("-", "project", SYSTEM_PROJECT)),
      "entry 1 creates the project _system",
    ).value.id;
  }

  async #write(group: Group, windowMs: number, subjects: readonly RecordId[]): Promise<void> {
    const { log, personal, random } = this.#parts;
    const put = async (value: string | undefined): Promise<string | undefined> =>
      value === undefined || value === "" ? undefined : await personal.put(value);
    const address = await put(group.address);
    const agent = await put(group.agent);
    const body = bodyFromMessage(
      "access",
      create(AccessSchema, {
        action: AccessAction.DENIED,
        reason: group.reason,
        count: group.count,
        windowMs,
        ...(group.rpc === undefined ? {} : { rpc: group.rpc }),
        ...(group.permission === undefined ? {} : { permission: group.permission }),
        ...(address === undefined ? {} : { address }),
        ...(agent === undefined ? {} : { agent }),
      }),
    );
    const draft: Draft = {
      kind: "access",
      project: group.project,
      actor: group.actor,
      body,
      links: subjects.slice(0, 1_000).map((to) => ({ rel: "subject", to })),
      requestId: `denied:${formatHex(random.bytes(16))}`,
    };
    await log.submit({ admit: () => ({ drafts: [draft], value: undefined }), project: group.project, lane: "control" });
  }
}

/** The /24 of an IPv4 address, the /48 of an IPv6 one; `unknown` for anything else. */
function networkOf(address: string | undefined): string {
  const v4 = /^(?:::ffff:)?(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}$/.exec(address ?? "");
  if (v4 !== null) return `${v4[1]}.0/24`;
  if (address?.includes(":") !== true || !/^[0-9a-fA-F:]{2,39}$/.test(address)) return "unknown";
  const [head = ""] = address.split("::");
  return `${head.split(":").slice(0, 3).join(":")}::/48`;
}
