/**
 * Facts: the part of a commit's records that the fold reads, so that a thread that checked them can hand over half of what they
 * are. Texts come again and again in a commit: they are written once and records name them by number, which also makes equal texts
 * one text, and so quick to compare and to find, where they are read.
 */
import type { JsonObject } from "../record/json.ts";
import { ACTOR_METHODS, type LedgerRecord, type Link } from "../record/record.ts";
import type { Digest, RecordId } from "../std/brand.ts";
import type { FoldedItem } from "./folding.ts";

/** Members of bodies that the fold reads, of the kinds whose bodies are large or many; of the others it may read all. */
const READS: Readonly<Record<string, readonly string[]>> = {
  access: [],
  "approval.request": ["action_digest", "evidence_digest", "target"],
  decision: ["evaluated_at", "outcome", "policies", "preview", "target"],
  "evidence.export": [],
  "ledger.seal": ["ledger"],
  "quality.report": [],
  run: [],
  "run.batch": [],
  "run.finish": ["status"],
  "run.start": ["token"],
};

/** All but `time` and `body` are numbers: of texts, of the method; `NOTHING` for none. Relations and targets come in turn. */
type RecordFacts = readonly [
  kind: number,
  method: number,
  principal: number,
  /** `NOTHING` in the record that creates the project. */
  project: number,
  requestId: number,
  time: string,
  links: readonly number[],
  body: JsonObject | 0,
];

const NOTHING = -1;

export interface CommitFacts {
  /** The ids of the items in order, then all other texts. */
  readonly texts: readonly string[];
  /** Number of each item's project, a digest. */
  readonly projects: readonly number[];
  /** Null for a record that is not here. */
  readonly records: readonly (RecordFacts | null)[];
}

const NO_BODY: JsonObject = {};

/** The facts of a commit's items. */
export function factsOf(items: readonly FoldedItem[]): CommitFacts {
  const texts: string[] = [];
  const numbers = new Map<string, number>();
  const numberOf = (text: string): number => {
    let number = numbers.get(text);
    if (number === undefined) {
      number = texts.push(text) - 1;
      numbers.set(text, number);
    }
    return number;
  };
  for (const { entry } of items) numberOf(entry.record);
  const projects: number[] = [];
  const records: (RecordFacts | null)[] = [];
  for (const { entry, record } of items) {
    projects.push(numberOf(entry.project));
    if (record === null) {
      records.push(null);
      continue;
    }
    const { actor, body, kind, links, project, request_id: requestId, time } = record;
    const ends: number[] = [];
    for (const { rel, to } of links) ends.push(numberOf(rel), numberOf(to));
    records.push([
      numberOf(kind),
      ACTOR_METHODS.indexOf(actor.method),
      actor.principal === undefined ? NOTHING : numberOf(actor.principal),
      project === undefined ? NOTHING : numberOf(project),
      numberOf(requestId),
      time,
      ends,
      bodyRead(kind, body),
    ]);
  }
  return { projects, records, texts };
}

function bodyRead(kind: string, body: JsonObject): JsonObject | 0 {
  const reads = Object.hasOwn(READS, kind) ? READS[kind] : undefined;
  if (reads === undefined) return body;
  let part: Record<string, JsonObject[string]> | undefined;
  for (const name of reads) {
    const value = body[name];
    if (value !== undefined) (part ??= {})[name] = value;
  }
  return part ?? 0;
}

/** The i-th item as its facts have it: folding it gives the same rows. */
export function itemOf({ projects, records, texts }: CommitFacts, i: number, index: FoldedItem["index"]): FoldedItem {
  const text = (number: number): string => texts[number] ?? "";
  const entry = { project: text(projects[i] ?? NOTHING) as Digest, record: text(i) as RecordId };
  const facts = records[i];
  if (facts === null || facts === undefined) return { entry, index, record: null };
  const [kind, method, principal, project, requestId, time, ends, body] = facts;
  const links: Link[] = [];
  for (let k = 0; k < ends.length; k += 2)
    links.push({ rel: text(ends[k] ?? NOTHING), to: text(ends[k + 1] ?? NOTHING) as RecordId });
  const actorMethod = ACTOR_METHODS[method] ?? "none";
  const record: LedgerRecord = {
    actor:
      principal === NOTHING ? { method: actorMethod } : { method: actorMethod, principal: text(principal) as RecordId },
    body: body === 0 ? NO_BODY : body,
    kind: text(kind),
    links,
    request_id: text(requestId),
    salt: "",
    time,
    v: 1,
    ...(project === NOTHING ? {} : { project: text(project) as RecordId }),
  };
  return { entry, index, record };
}
