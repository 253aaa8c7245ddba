/**
 * Binds a role to a principal, or names a group of approvers. Nobody binds himself, nor a group that he belongs to; policies on
 * `role.binding.grant` may ask for approval or refuse.
 */
import { create } from "@bufbuild/protobuf";
import { GroupSchema, RoleBindingSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { CreateRoleBindingRequest } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { ledgerOf } from "../identity/ledger.ts";
import { LEDGER_ROLES, parseRole, ROLES, type Role } from "../identity/roles.ts";
import type { Draft } from "../log/submission.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { actionOf } from "./action.ts";
import { type Admission, draft, findByContent, link, type Plan } from "./admission.ts";
import { bodyOf, checkName, checkTime, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { gated } from "./decide.ts";
import { checkCount } from "./limits.ts";
import { resolvePrincipal } from "./owner.ts";
import { specOf, write } from "./write.ts";

const MAX_MEMBERS = 500;

export const createRoleBinding = (
  deps: Deps,
  caller: Caller,
  request: CreateRoleBindingRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(deps, caller, specOf(request, "binding.write"), (a) => planRoleBinding(a, request), signal);

/** What the request comes to; also run by the vote that completes its approval. */
export function planRoleBinding(a: Admission, request: CreateRoleBindingRequest): Plan {
  const role = checkRole(a, request.role);
  if ((request.principal === "") === (request.group === "")) {
    throw invalid("principal", "or group is needed, and not both");
  }
  if (request.group === "" && request.members.length > 0) throw invalid("members", "belong to a group: name it");
  if (request.expiresAt !== "" && checkTime("expires_at", request.expiresAt) <= a.nowMs) {
    throw invalid("expires_at", "is over already");
  }
  const members = membersOf(a, request);
  if (members.includes(a.caller.principal)) {
    throw new Fault("SELF_GRANT", "nobody gives a role to himself or to his group: ask another administrator");
  }
  const binding = draft(a, "role.binding", bodyFor(request, role, members));
  const existing = findByContent(a, binding);
  if (existing !== undefined && isInForce(a, existing)) return { drafts: [], existing: { id: existing } };
  const member = request.group === "" ? (members[0] ?? "") : request.group;
  return gated(
    a,
    {
      target: "role.binding.grant",
      subjects: [a.project],
      request: { role, member },
      action: actionOf("CreateRoleBinding", request),
    },
    (decision, approvals): readonly Draft[] => [
      { ...binding, links: [...link("decision", decision), ...link("approval", ...approvals)] },
    ],
  );
}

function checkRole(a: Admission, text: string): Role {
  const role = parseRole(text);
  if (role === undefined) throw invalid("role", `is none of ${Object.keys(ROLES).join(", ")}`);
  if (LEDGER_ROLES.includes(role) && a.project !== ledgerOf(a.reader)) {
    throw invalid("role", `is ${role}, which only _ledger binds`);
  }
  return role;
}

function membersOf(a: Admission, request: CreateRoleBindingRequest): RecordId[] {
  if (request.group === "") return [resolvePrincipal(a, request.principal, "principal")];
  checkName(request.group);
  if (request.members.length === 0) throw invalid("members", "is empty: name the principals of the group");
  checkCount("members", request.members.length, MAX_MEMBERS);
  return [...new Set(request.members.map((m) => resolvePrincipal(a, m, "members")))].toSorted();
}

const bodyFor = (request: CreateRoleBindingRequest, role: Role, members: readonly RecordId[]) =>
  bodyOf(
    "role.binding",
    create(RoleBindingSchema, {
      role,
      ...(request.group === ""
        ? { principal: members[0] as string }
        : { group: create(GroupSchema, { name: request.group, members: [...members] }) }),
      ...(request.expiresAt === "" ? {} : { expiresAt: request.expiresAt }),
    }),
  );

function isInForce(a: Admission, id: RecordId): boolean {
  if (a.reader.get("entity", id)?.value.status !== "active") return false;
  const end = a.reader.record(id)?.record.body["expires_at"];
  return typeof end !== "string" || (parseTime(end) ?? 0) > a.nowMs;
}
