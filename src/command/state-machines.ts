/**
 * The statuses that a request may move, as one table: which moves there are, what they need, and whether policy decides.
 * Statuses that follow from something else (a run's, superseded, expired) are no moves and stand in the fold.
 */
import type { Permission } from "../identity/roles.ts";
import type { Lane } from "../log/submission.ts";
import type { Target } from "../policy/targets.ts";
import type { JsonObject } from "../record/json.ts";
import type { Kind } from "../record/kinds.ts";
import { Fault } from "../std/faults.ts";

export interface Machine {
  readonly kind: Kind;
  /** From a status to those that follow it. */
  readonly moves: Readonly<Record<string, readonly string[]>>;
  /** What the mover needs in the subject's project, beside reading it. */
  readonly permission: Permission;
  /** For subjects whose body asks for another permission. */
  readonly permissionOf?: (body: JsonObject) => Permission;
  /** The policy target that decides; absent where none does. */
  readonly target?: Target;
  readonly lane?: Lane;
}

export const MACHINES: readonly Machine[] = [
  {
    kind: "dataset.version",
    moves: {
      registered: ["approved", "revoked"],
      approved: ["deprecated", "revoked"],
      deprecated: ["approved", "revoked"],
    },
    permission: "data.transition",
    target: "dataset.version.transition",
  },
  {
    kind: "environment.lock",
    moves: { registered: ["approved", "revoked"], approved: ["deprecated", "revoked"], deprecated: ["revoked"] },
    permission: "environment.transition",
    target: "environment.lock.transition",
  },
  {
    kind: "model.version",
    moves: {
      draft: ["validated", "revoked"],
      validated: ["draft", "approved", "revoked"],
      approved: ["deprecated", "revoked"],
      deprecated: ["approved", "revoked"],
    },
    permission: "model.transition",
    target: "model.version.transition",
  },
  {
    kind: "policy",
    moves: { draft: ["shadow", "active"], shadow: ["active", "retired"], active: ["retired"] },
    permission: "policy.activate",
    permissionOf: (body) => (body["target"] === "quality.gate" ? "quality.write" : "policy.activate"),
    target: "policy.activate",
    lane: "control",
  },
  // Who asked takes the request back; everybody who reads the project may ask for approvals.
  { kind: "approval.request", moves: { open: ["withdrawn"] }, permission: "read", lane: "control" },
  {
    kind: "project",
    moves: { active: ["archived"], archived: ["active"] },
    permission: "project.admin",
    lane: "control",
  },
  {
    kind: "principal",
    moves: { active: ["disabled"], disabled: ["active"] },
    permission: "principal.write",
    lane: "control",
  },
  { kind: "token", moves: { active: ["revoked"] }, permission: "principal.write", lane: "control" },
  { kind: "role.binding", moves: { active: ["revoked"] }, permission: "binding.write", lane: "control" },
];

export const machineOf = (kind: string): Machine | undefined => MACHINES.find((m) => m.kind === kind);

export const permissionFor = (machine: Machine, body: JsonObject): Permission =>
  machine.permissionOf?.(body) ?? machine.permission;

/** Throws TRANSITION_NOT_ALLOWED, which names what may be done instead. */
export function checkMove({ kind, moves }: Machine, from: string, to: string): void {
  const allowed = moves[from] ?? [];
  if (allowed.includes(to)) return;
  throw new Fault(
    "TRANSITION_NOT_ALLOWED",
    allowed.length === 0
      ? `a ${kind} that is ${from} moves no more`
      : `a ${kind} that is ${from} may become ${allowed.join(" or ")}, not ${to.slice(0, 64)}`,
    { metadata: { allowed: allowed.join(","), from, to: to.slice(0, 64) } },
  );
}
