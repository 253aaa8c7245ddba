/** Carrying out what was approved: the request that waited, planned again for who asked, with the votes in its decision. */

import type { CreateRoleBindingRequest } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import type { SetAliasRequest, TransitionRequest } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Draft, DraftRef } from "../log/submission.ts";
import { text } from "../policy/compile.ts";
import { parseTarget } from "../policy/targets.ts";
import { isObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import { assertDefined, unreachable } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { parseAction } from "./action.ts";
import type { Admission, Plan } from "./admission.ts";
import type { Caller } from "./context.ts";
import { planRoleBinding } from "./create-role-binding.ts";
import { type Decided, decide } from "./decide.ts";
import { planAlias } from "./set-alias.ts";
import { planTransition } from "./transition.ts";

/** A request for approval and the admission of who asked for it. */
export interface Waiting {
  readonly id: RecordId;
  readonly record: LedgerRecord;
  readonly subjects: readonly RecordId[];
}

export function waitingOf(reader: ViewReader, id: RecordId): Waiting {
  const { record } = assertDefined(reader.record(id), "a request for approval is there");
  return { id, record, subjects: record.links.flatMap((l) => (l.rel === "subject" ? [l.to] : [])) };
}

/** Admission as if the requester asked again, over a state that holds the votes. Its permissions are those of now. */
export function asRequester(a: Admission, waiting: Waiting, reader: ViewReader): Admission {
  const { actor, request_id: requestId, time } = waiting.record;
  const principal = assertDefined(actor.principal, "a principal asked");
  const entity = reader.get("entity", principal)?.value;
  const body = reader.record(entity?.revision ?? principal)?.record.body;
  const caller: Caller = {
    authenticatedAtMs: parseTime(time) ?? a.nowMs,
    expiresAt: "",
    method: "token",
    name: entity?.name ?? "",
    permissions: [],
    principal,
    rpc: a.caller.rpc,
    token: principal,
    type: body?.["type"] === "PRINCIPAL_TYPE_HUMAN" ? "human" : "service",
  };
  return { ...a, approvalRequest: waiting.id, caller, reader, requestId };
}

/** The decision on the request as things are now. */
export function decideAgain(a: Admission, { record, subjects }: Waiting): Decided {
  const { action, apply, target } = record.body;
  const decision = record.links.find((l) => l.rel === "decision")?.to;
  const input = decision === undefined ? undefined : a.reader.record(decision)?.record.body["input"];
  const asked = isObject(input) && isObject(input["request"]) ? input["request"] : {};
  return decide(a, {
    action: isObject(action) ? action : {},
    apply: apply === true,
    request: Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null)),
    subjects,
    target: assertDefined(parseTarget(text(target)), "a request for approval has a target"),
  });
}

/** Whether what is asked, or what it rests on, is not what it was when approval was asked for. */
export const isStale = ({ record }: Waiting, now: Pick<Decided, "actionDigest" | "evidenceDigest">): boolean =>
  now.actionDigest !== record.body["action_digest"] || now.evidenceDigest !== record.body["evidence_digest"];

/** The plan of the request itself. */
export function planAgain(a: Admission, { record }: Waiting): Plan {
  const { action } = record.body;
  const parsed = isObject(action) ? parseAction(action) : undefined;
  if (parsed === undefined) {
    throw new Fault("APPROVAL_CLOSED", "this version cannot carry the request out: ask again", {
      metadata: { status: "unknown" },
    });
  }
  switch (parsed.method) {
    case "CreateRoleBinding":
      return planRoleBinding(a, parsed.request as CreateRoleBindingRequest);
    case "SetAlias":
      return planAlias(a, parsed.request as SetAliasRequest);
    case "Transition":
      return planTransition(a, parsed.request as TransitionRequest);
    default:
      return unreachable(parsed.method);
  }
}

/** Drafts that follow one that was shown to their plan as `pending`: their references, moved by one. */
export function behind(drafts: readonly Draft[], pending: RecordId, effects: readonly string[]): Draft[] {
  const moved = (to: DraftRef): DraftRef =>
    to === pending ? "$0" : to.startsWith("$") ? `$${Number(to.slice(1)) + 1}` : to;
  return drafts.map((d) => {
    const links = d.links.map(({ rel, to }) => ({ rel, to: moved(to) }));
    const via = effects.includes(d.kind) ? [{ rel: "via", to: "$0" as const }] : [];
    return { ...d, links: [...links, ...via], ...(d.project === undefined ? {} : { project: moved(d.project) }) };
  });
}
