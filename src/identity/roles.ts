/**
 * The roles and what they permit: fixed in code, so that a binding means the same in every ledger and for every auditor.
 *
 * Roles are bound per project. `auditor` and `operator` are bound in the ledger's own project only; an auditor reads every
 * project, an operator none. A run's token has no role: it serves one run, with `RUN_TOKEN_PERMISSIONS`.
 */
export const PERMISSIONS = [
  "alias.write",
  "approve",
  "artifact.read",
  "artifact.write",
  "audit",
  "binding.write",
  "data.transition",
  "dataset.write",
  "environment.transition",
  "environment.write",
  "evidence.export",
  "ledger.operate",
  "log.read",
  "model.transition",
  "model.write",
  "policy.activate",
  "policy.write",
  "principal.write",
  "project.admin",
  "project.create",
  "quality.report",
  "quality.write",
  "read",
  "retention.write",
  "run.cancel",
  "run.report",
  "run.write",
  "use",
] as const;

export type Permission = (typeof PERMISSIONS)[number];

const CI = [
  "read",
  "use",
  "artifact.read",
  "artifact.write",
  "run.write",
  "environment.write",
  "dataset.write",
  "model.write",
  "quality.report",
  "model.transition",
  "alias.write",
] as const satisfies readonly Permission[];

export const ROLES = {
  viewer: ["read"],
  consumer: ["read", "use", "artifact.read"],
  contributor: [...CI, "run.cancel", "environment.transition"],
  ci: CI,
  steward: [
    "read",
    "use",
    "artifact.read",
    "artifact.write",
    "dataset.write",
    "quality.report",
    "quality.write",
    "data.transition",
    "approve",
  ],
  "policy-author": ["read", "policy.write", "policy.activate", "approve"],
  approver: ["read", "artifact.read", "model.transition", "approve", "evidence.export"],
  "project-admin": [
    "read",
    "project.admin",
    "binding.write",
    "principal.write",
    "retention.write",
    "run.cancel",
    "audit",
    "evidence.export",
  ],
  auditor: ["read", "artifact.read", "audit", "evidence.export", "log.read"],
  operator: ["ledger.operate", "log.read", "project.create", "retention.write"],
} as const satisfies Readonly<Record<string, readonly Permission[]>>;

export type Role = keyof typeof ROLES;

/** Roles that only the ledger's own project binds. */
export const LEDGER_ROLES: readonly Role[] = ["auditor", "operator"];

/** What a run's token may do in the run's project; commands further limit it to its run. */
export const RUN_TOKEN_PERMISSIONS: readonly Permission[] = [
  "read",
  "run.report",
  "artifact.read",
  "artifact.write",
  "dataset.write",
  "model.write",
];

export const parseRole = (text: string): Role | undefined => (Object.hasOwn(ROLES, text) ? (text as Role) : undefined);

const KNOWN: ReadonlySet<string> = new Set(PERMISSIONS);

export const parsePermission = (text: string): Permission | undefined =>
  KNOWN.has(text) ? (text as Permission) : undefined;

/** Permissions of a role by its name; none for a role that this program does not know. */
export function permissionsOfRole(name: string): readonly Permission[] {
  const role = parseRole(name);
  return role === undefined ? [] : ROLES[role];
}
