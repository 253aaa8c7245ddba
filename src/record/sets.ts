/**
 * Lists of bodies that are sets: their order says nothing, so a writer puts them into one order, and equal content has equal bytes.
 * The protos say the same in words ("ascending by …"); a test holds the two together.
 */
import type { Json, JsonObject } from "./json.ts";

/** By message and field: the members that order the list; none for a list of texts, which is ascending itself. */
export const SETS: Readonly<Record<string, readonly string[]>> = {
  "AppliesTo.datasets": [],
  "AppliesTo.environments": [],
  "AppliesTo.models": [],
  "AppliesTo.purposes": [],
  "ApprovalRule.groups": [],
  "Code.submodules": ["path"],
  "Dataset.labels": ["key"],
  "Dataset.restrictions": [],
  "DatasetVersion.files": ["path"],
  "DatasetVersion.statistics": ["column", "metric"],
  "Environment.labels": ["key"],
  "EnvironmentLock.images": ["name"],
  "EnvironmentLock.lockfiles": ["path"],
  "EnvironmentLock.runtimes": ["name"],
  "EvidenceExport.roots": [],
  "Experiment.labels": ["key"],
  "Group.members": [],
  "Model.labels": ["key"],
  "ModelVersion.files": ["path"],
  "ObservedEnvironment.lockfiles": ["path"],
  "ObservedEnvironment.runtimes": ["name"],
  "Operation.counts": ["name"],
  "Operation.digests": [],
  "Operation.findings": ["code", "object"],
  "Operation.personal_values": [],
  "PlanStep.needs": [],
  "Project.labels": ["key"],
  "QualityReport.measurements": ["column", "name"],
  "RuleResult.seen": ["path", "value"],
  "Run.inputs": ["record", "role"],
  "Run.params": ["key"],
  "SchemaField.classes": [],
};

/** Order of UTF-16 code units, as everywhere in canonical JSON. */
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
/** An absent text is empty. */
const textOf = (item: Json, member: string): string => ((item as JsonObject)[member] ?? "") as string;

/** Puts a set in order. Equal texts become one; rows of equal keys stay, since they may differ in the rest. */
export function arrangeSet(items: readonly Json[], by: readonly string[]): Json[] {
  if (by.length === 0) return [...new Set(items as readonly string[])].toSorted(compare);
  return items.toSorted((a, b) => {
    for (const member of by) {
      const order = compare(textOf(a, member), textOf(b, member));
      if (order !== 0) return order;
    }
    return 0;
  });
}
