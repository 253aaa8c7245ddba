/**
 * Entities: the rows, names and numbers that a record gets by being of its kind. A number is the position among the parent's
 * versions in log order, so no record holds its own.
 */
import type { RecordId } from "../std/brand.ts";
import type { Folding } from "./folding.ts";
import { contentIdentity } from "./identity.ts";
import { inheritsTaint } from "./taint.ts";
import { type EntityRow, keys } from "./view.ts";

interface EntityKind {
  /** Status at the beginning; absent for kinds that have none. */
  readonly status?: string;
  /** Where its name is unique. */
  readonly named?: "ledger" | "project";
  /** Link to what it is a version of. */
  readonly versionOf?: string;
  /** Link to what it belongs to, without a number. */
  readonly below?: string;
  /** Whether it is built from other things. */
  readonly built?: true;
}

const ENTITY_KINDS: Readonly<Record<string, EntityKind>> = {
  "approval.request": { status: "open" },
  code: {},
  dataset: { named: "project" },
  "dataset.version": { built: true, status: "registered", versionOf: "dataset" },
  environment: { named: "project" },
  "environment.lock": { status: "registered", versionOf: "environment" },
  experiment: { named: "project" },
  ledger: { named: "ledger", status: "active" },
  model: { named: "project" },
  "model.version": { built: true, status: "draft", versionOf: "model" },
  policy: { status: "draft" },
  principal: { named: "ledger", status: "active" },
  project: { named: "ledger", status: "active" },
  "quality.report": { below: "dataset_version" },
  "role.binding": { status: "active" },
  run: { below: "parent", built: true, status: "planned" },
  schema: {},
  token: { below: "principal", status: "active" },
};

export const LEDGER_NAME = "_ledger";

/** Takes the next number below a parent. */
function takeNumber(folding: Folding, parent: string, kind: string): number {
  const key = keys.count(parent, kind);
  const n = (folding.get("count", key)?.n ?? 0) + 1;
  folding.put("count", key, { n });
  folding.put("nth", keys.nth(parent, kind, n), { id: folding.id });
  return n;
}

/** The first record keeps a name. */
function takeName(folding: Folding, owner: RecordId | "-", kind: string, name: string): void {
  const key = keys.name(owner, kind, name);
  if (folding.get("name", key) === undefined) folding.put("name", key, { id: folding.id });
}

/** The entity that this record creates: none for a revision, or for a kind that has neither a state nor a number. */
export function foldEntity(folding: Folding): void {
  const { kind, body } = folding.record;
  const spec = ENTITY_KINDS[kind];
  if (spec === undefined) return foldContent(folding);
  const revised = folding.link(kind === "ledger" ? "supersedes" : "revises");
  if (revised !== undefined) return foldRevision(folding, kind === "ledger" ? folding.project : revised);
  const name = kind === "ledger" ? LEDGER_NAME : folding.text("name");
  const series = kind === "policy" ? keys.series(folding.project, name) : undefined;
  const versionOf = spec.versionOf === undefined ? undefined : folding.link(spec.versionOf);
  const parent = versionOf ?? (spec.below === undefined ? undefined : folding.link(spec.below));
  const numbered = series ?? versionOf;
  const row: EntityRow = {
    kind,
    ...(kind === "ledger" || (name !== "" && typeof body["name"] === "string") ? { name } : {}),
    ...(numbered === undefined ? {} : { ordinal: takeNumber(folding, numbered, kind) }),
    ...(parent === undefined ? {} : { parent }),
    project: folding.project,
    revision: folding.id,
    ...(spec.status === undefined ? {} : { status: spec.status }),
    ...(spec.built === true && inheritsTaint(folding) ? { tainted: true as const } : {}),
  };
  folding.put("entity", folding.id, row);
  if (spec.named !== undefined)
    takeName(folding, spec.named === "ledger" ? "-" : folding.project, kind === "ledger" ? "project" : kind, name);
  // Schemas share names; theirs leads to the newest.
  if (kind === "schema") folding.put("name", keys.name(folding.project, kind, name), { id: folding.id });
  if (kind === "project" || kind === "ledger")
    folding.put("project", folding.id, { name, revision: folding.id, status: "active" });
  foldContent(folding);
}

function foldRevision(folding: Folding, creator: RecordId): void {
  folding.updateEntity(creator, { revision: folding.id });
  const project = folding.get("project", creator);
  if (project !== undefined) folding.put("project", creator, { ...project, revision: folding.id });
}

function foldContent(folding: Folding): void {
  const { kind, body, links } = folding.record;
  const key = contentIdentity(kind, folding.project, body, links);
  if (key !== undefined) folding.put("content", key, { id: folding.id });
}
