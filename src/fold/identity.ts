/**
 * Identity by content: which records of a kind are the same thing, whoever asks for them. The key commits to the content alone, so
 * that a second registration of it finds the first record.
 *
 * Batches of a run are found by their number instead (view `nth`), and changes of status, votes and aliases by the state that they
 * change.
 */

import { sha256Hex } from "../merkle/hash.ts";
import { canonicalize } from "../record/canonical.ts";
import type { Json, JsonObject } from "../record/json.ts";
import type { Link } from "../record/record.ts";
import type { RecordId } from "../std/brand.ts";
import { utf8 } from "../std/bytes.ts";

interface Identity {
  /** Members of the body; absent for all. */
  readonly members?: readonly string[];
  readonly rels?: readonly string[];
}

const IDENTITIES: Readonly<Record<string, Identity>> = {
  "approval.request": { members: ["action_digest", "evidence_digest"] },
  artifact: { members: ["digest"] },
  code: {},
  "dataset.version": { members: ["content_digest"], rels: ["dataset", "derived_from", "produced_by", "schema"] },
  "environment.lock": { members: ["images", "lockfiles", "packages_digest"], rels: ["environment"] },
  "model.version": { members: ["content_digest", "files"], rels: ["model", "produced_by"] },
  policy: {},
  "role.binding": { members: ["group", "principal", "role"] },
  "run.finish": { members: ["status"], rels: ["run"] },
  "run.start": { members: [], rels: ["run"] },
  schema: { members: ["fields", "name"] },
};

/** Key of the view `content`: equal for equal content; undefined for kinds that content does not identify. */
export function contentIdentity(
  kind: string,
  project: RecordId,
  body: JsonObject,
  links: readonly Link[],
): string | undefined {
  const identity = IDENTITIES[kind];
  if (identity === undefined) return undefined;
  const content: Record<string, Json> = {};
  for (const name of identity.members ?? Object.keys(body)) {
    const value = body[name];
    if (value !== undefined) content[name] = value;
  }
  const rels = identity.rels;
  const of =
    rels === undefined ? [] : links.filter((link) => rels.includes(link.rel)).map((link) => `${link.rel} ${link.to}`);
  const text = canonicalize({ content, links: of.toSorted() });
  return `${project}/${kind}/${sha256Hex(utf8(text))}`;
}
