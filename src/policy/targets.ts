/** What policies judge (`policy.target`, `decision.target`). */
export const TARGETS = [
  "alias.set",
  "artifact.download",
  "dataset.version.transition",
  "dataset.version.use",
  "environment.lock.transition",
  "evidence.export",
  "exception.grant",
  "ledger.change",
  "model.version.transition",
  "policy.activate",
  "quality.gate",
  "role.binding.grant",
  "run.start",
] as const;

export type Target = (typeof TARGETS)[number];

/** Targets that are decided only where a policy is bound: they would otherwise add a record to each read. */
export const ONLY_WHERE_BOUND: ReadonlySet<Target> = new Set(["artifact.download", "dataset.version.use"]);

export const parseTarget = (text: string): Target | undefined =>
  (TARGETS as readonly string[]).includes(text) ? (text as Target) : undefined;
