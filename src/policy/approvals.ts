/**
 * Who may approve (21 CFR 11): a person, who has just authenticated, of a group that is asked, who had no part in what is approved,
 * has not voted, and saw what is voted on. Pure rules; the command records the vote.
 */
import type { ViewReader } from "../fold/view.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import type { ApprovalRule } from "./judgement.ts";
import { Reading } from "./reading.ts";

/** Seconds since the approver's last authentication. */
export const REAUTHENTICATION_S = 300;

/** Id of the genesis record; undefined where the reader holds no ledger record, as one that is made of facts. */
export function ledgerOf(reader: ViewReader): RecordId | undefined {
  const newest = reader.get("ledger", "")?.value.record;
  if (newest === undefined) return undefined;
  return reader.record(newest)?.record.project ?? newest;
}

/**
 * Principals that had a part in a subject: who wrote it or its revisions, and who planned, started or ran the runs that made it.
 * The requester is one too; the caller adds it. Ascending.
 */
export const authors = (subject: RecordId, reader: ViewReader): RecordId[] => authorsOf(new Reading(reader), subject);

export function authorsOf(reading: Reading, subject: RecordId): RecordId[] {
  const found = new Set<RecordId>();
  const add = (id: RecordId): void => {
    const principal = reading.record(id)?.actor.principal;
    if (principal !== undefined) found.add(principal);
  };
  add(subject);
  for (const dependent of reading.reader.dependents(subject)) if (dependent.rel === "revises") add(dependent.id);
  const runs = reading.record(subject)?.kind === "run" ? [subject] : reading.links(subject, "produced_by");
  for (const run of runs) {
    add(run);
    const row = reading.reader.get("run", run)?.value;
    for (const id of [row?.start, row?.finish]) if (id !== undefined) add(id);
  }
  return [...found].toSorted();
}

/** Names of the groups that a principal belongs to at a time: the project's own and the ledger's. */
export function approverGroups(reader: ViewReader, principal: RecordId, project: RecordId, now: string): string[] {
  const ledger = ledgerOf(reader);
  return new Reading(reader).groups(principal, ledger === undefined ? [project] : [project, ledger], now);
}

export interface Vote {
  readonly principal: RecordId;
  readonly type: "human" | "service";
  readonly authAgeS: number;
  readonly groups: readonly string[];
  /** Lower-case. */
  readonly meaning: string;
  /** As shown to the approver. */
  readonly actionDigest: string;
}

export interface OpenRequest {
  readonly actionDigest: string;
  readonly requirements: readonly { readonly approval: ApprovalRule }[];
  /** Authors of the subjects, and the requester. */
  readonly involved: readonly RecordId[];
  readonly voted: readonly RecordId[];
}

/** Throws the first fault that keeps a vote from counting. */
export function assertMayVote(vote: Vote, request: OpenRequest): void {
  if (vote.type !== "human")
    throw new Fault("APPROVER_NOT_HUMAN", "Only a person can approve: ask one of the groups that the request names.");
  if (!(vote.authAgeS <= REAUTHENTICATION_S))
    throw new Fault("REAUTHENTICATION_REQUIRED", `Authenticate again and vote within ${REAUTHENTICATION_S} seconds.`);
  if (request.involved.includes(vote.principal))
    throw new Fault(
      "APPROVER_IS_AUTHOR",
      "You had a part in what is to be approved, or asked for it: let somebody else approve.",
    );
  if (!request.requirements.some(({ approval }) => counts(vote, approval))) throw notEligible(vote, request);
  if (request.voted.includes(vote.principal))
    throw new Fault("ALREADY_VOTED", "You have voted on this request; a vote cannot be changed.");
  if (vote.actionDigest !== request.actionDigest)
    throw new Fault(
      "APPROVAL_MISMATCH",
      "What you were shown is not what is asked for now: look at the request again.",
    );
}

/** Whether a vote would count for a requirement. */
export const counts = (vote: Pick<Vote, "groups" | "meaning">, rule: ApprovalRule): boolean =>
  vote.meaning === rule.meaning && vote.groups.some((group) => rule.groups.includes(group));

function notEligible(vote: Vote, request: OpenRequest): Fault {
  const wanted = request.requirements.map(
    ({ approval }) => `${approval.groups.join(" or ")}, meaning ${approval.meaning}`,
  );
  return new Fault(
    "APPROVER_NOT_ELIGIBLE",
    `The request asks for a member of ${wanted.join("; ")}: your groups are ${vote.groups.join(", ") || "none"}, and your meaning ${vote.meaning}.`,
    {
      metadata: { groups: vote.groups.join(","), meaning: vote.meaning },
    },
  );
}
