/**
 * Votes on what waits for approval (21 CFR 11). A vote for is by a person of a group that is asked, who had no part in what is
 * approved, and who saw what is voted on and gives his name to it. The vote that completes a request carries it out: vote, new
 * decision and effect enter one commit, so that nothing is approved and not done, or done on other grounds.
 *
 * - A vote counts only while what was asked and what it rests on are as they were: both digests are taken again.
 * - The printed name is a personal value: stored again for each vote, so that it can be erased with it.
 */
import { create } from "@bufbuild/protobuf";
import { ApprovalSchema, Meaning, Verdict } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import type { ApproveRequest, RejectRequest } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { callerPermissions } from "../identity/authorise.ts";
import { findProject } from "../identity/ledger.ts";
import type { Draft } from "../log/submission.ts";
import { approverGroups, assertMayVote, authors } from "../policy/approvals.ts";
import { approvalRule, text } from "../policy/compile.ts";
import { withDrafts } from "../policy/fact-reader.ts";
import type { ApprovalRule } from "../policy/judgement.ts";
import type { JsonObject } from "../record/json.ts";
import { sortLinks } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { formatTime, parseTime } from "../std/ports.ts";
import { type Admission, draft, link, type Plan, resolve } from "./admission.ts";
import { bodyOf, invalid } from "./body.ts";
import { asRequester, behind, decideAgain, isStale, planAgain, type Waiting, waitingOf } from "./carry-out.ts";
import type { Caller, Deps } from "./context.ts";
import { isRecorded, isRefusal, perform, respond, specOf } from "./write.ts";

interface Ballot {
  readonly project: string;
  readonly requestId: string;
  readonly validateOnly: boolean;
  readonly request: string;
  readonly actionDigest: string;
  readonly statement: string;
  readonly verdict: Verdict;
  /** Absent for a vote against: the meaning that the request asks of the voter. */
  readonly meaning?: Meaning;
}

export const approve = (deps: Deps, caller: Caller, request: ApproveRequest, signal?: AbortSignal) => {
  if (request.meaning === Meaning.UNSPECIFIED)
    throw invalid("meaning", "is missing: say what you take responsibility for");
  return vote(deps, caller, { ...request, verdict: Verdict.APPROVE }, signal);
};

export const reject = (deps: Deps, caller: Caller, request: RejectRequest, signal?: AbortSignal) =>
  vote(deps, caller, { ...request, verdict: Verdict.REJECT }, signal);

/** Stands for a name that is not stored. */
const UNSTORED = `personal:sha256:${"0".repeat(64)}`;

async function vote(
  deps: Deps,
  caller: Caller,
  ballot: Ballot,
  signal: AbortSignal | undefined,
): Promise<WriteResponse> {
  if (ballot.statement === "") throw invalid("statement", "is missing: say in your words what you sign");
  // A repeat authenticates again, later; and whatever his name is by then, the vote has the one that it was given.
  const spec = specOf(ballot, "approve", { lane: "control", secrets: ["authenticated_at", "printed_name"] });
  const name = isRecorded(deps, caller, spec) ? UNSTORED : await printedName(deps, caller, ballot, signal);
  const discard = async (): Promise<void> => {
    if (name !== UNSTORED) await deps.personal.remove(name, signal);
  };
  const done = await perform(deps, caller, spec, (a) => plan(a, ballot, name), signal).catch(async (error: unknown) => {
    if (isRefusal(error)) await discard();
    throw error;
  });
  if (done.repeated) await discard();
  return respond(done);
}

/** The name of the person as it is now, stored for this vote; nothing is stored for who may not vote. */
async function printedName(
  deps: Deps,
  caller: Caller,
  ballot: Ballot,
  signal: AbortSignal | undefined,
): Promise<string> {
  const reference = ballot.validateOnly ? undefined : nameReference(deps, caller, ballot.project);
  if (reference === undefined) return UNSTORED;
  const name = await deps.personal.get(reference, signal);
  if (name === undefined)
    throw new Fault("ERASED", "your printed name was erased: an administrator gives you another one");
  return deps.personal.put(name, signal);
}

function nameReference(deps: Deps, caller: Caller, project: string): string | undefined {
  using reader = deps.log.index.reader();
  const id = findProject(reader, project);
  if (id === undefined || caller.type !== "human") return undefined;
  if (!callerPermissions(reader, caller, id, deps.clock.now()).has("approve")) return undefined;
  const revision = reader.get("entity", caller.principal)?.value.revision ?? caller.principal;
  const name = reader.record(revision)?.record.body["display_name"];
  return typeof name === "string" ? name : undefined;
}

function plan(a: Admission, ballot: Ballot, name: string): Plan {
  const waiting = waitingOf(a.reader, resolve(a, ballot.request, ["approval.request"], "request"));
  const requirements = requirementsOf(waiting);
  const now = formatTime(a.nowMs);
  const groups = approverGroups(a.reader, a.caller.principal, a.project, now);
  const meaning = ballot.meaning === undefined ? meaningAsked(requirements, groups) : meaningWord(ballot.meaning);
  const row = assertDefined(a.reader.get("approval", waiting.id)?.value, "a request for approval has a row");
  assertOpen(a, waiting, row.status);
  assertMayVote(
    {
      actionDigest: ballot.actionDigest,
      authAgeS: Math.max(0, (a.nowMs - a.caller.authenticatedAtMs) / 1_000),
      groups,
      meaning,
      principal: a.caller.principal,
      type: a.caller.type,
    },
    {
      actionDigest: text(waiting.record.body["action_digest"]),
      involved: involvedIn(a, waiting),
      requirements: requirements.map((approval) => ({ approval })),
      voted: row.votes.map((v) => v.principal),
    },
  );
  const signed = approvalDraft(a, ballot, waiting, meaning, name);
  return ballot.verdict === Verdict.REJECT ? voteOnly(signed) : counted(a, waiting, signed, now);
}

const voteOnly = (signed: Draft): Plan => ({ drafts: [signed], primary: 0 });

/** The vote, and what follows when it was the last one that was lacking. */
function counted(a: Admission, waiting: Waiting, signed: Draft, now: string): Plan {
  const { pending, reader } = withDrafts(
    a.reader,
    [{ ...signed, links: sortLinks(signed.links as Parameters<typeof sortLinks>[0]), project: a.project }],
    now,
  );
  const requester = asRequester(a, waiting, reader);
  const decided = decideAgain(requester, waiting);
  if (isStale(waiting, decided)) {
    throw new Fault(
      "APPROVAL_CLOSED",
      "what is asked, or what it rests on, has changed since: it must be asked for again",
      {
        metadata: { request: waiting.id, status: "stale" },
      },
    );
  }
  if (decided.outcome === "REQUIRE_APPROVAL") return voteOnly(signed);
  if (decided.outcome !== "ALLOW") {
    throw new Fault("POLICY_DENIED", "policies do not allow it any more, whoever approves: ask what would pass", {
      metadata: { outcome: decided.outcome, request: waiting.id },
    });
  }
  if (waiting.record.body["apply"] !== true) return voteOnly(signed);
  const effect = planAgain(requester, waiting);
  // It was done in the meantime: the vote stands, and nothing is left to do.
  if (effect.primary === undefined || typeof effect.decision !== "number") return voteOnly(signed);
  const kind = assertDefined(effect.drafts[effect.primary], "a plan has its resource").kind;
  const vote = assertDefined(pending[0], "the vote is pending");
  return {
    decision: effect.decision + 1,
    drafts: [signed, ...behind(effect.drafts, vote, [kind])],
    primary: 0,
  };
}

function assertOpen(a: Admission, { id, record }: Waiting, status: string): void {
  const end = parseTime(text(record.body["expires_at"])) ?? 0;
  const now = status === "open" && end <= a.nowMs ? "expired" : status;
  if (now === "open") return;
  throw new Fault("APPROVAL_CLOSED", `the request is ${now}: no further vote counts`, {
    metadata: { request: id, status: now },
  });
}

/** Who asked, and who had a part in what it is about. */
function involvedIn(a: Admission, { record, subjects }: Waiting): RecordId[] {
  const involved = new Set(subjects.flatMap((s) => authors(s, a.reader)));
  if (record.actor.principal !== undefined) involved.add(record.actor.principal);
  // Who gets the right does not give it to himself.
  if (record.body["target"] === "role.binding.grant") for (const s of subjects) involved.add(s);
  return [...involved];
}

const requirementsOf = ({ record }: Waiting): ApprovalRule[] =>
  ((record.body["requirements"] ?? []) as readonly JsonObject[]).map((r) => approvalRule(r["approval"] as JsonObject));

const meaningWord = (meaning: Meaning): string => [...MEANINGS].find(([, m]) => m === meaning)?.[0] ?? "";

/** What the request asks of a member of these groups. */
function meaningAsked(requirements: readonly ApprovalRule[], groups: readonly string[]): string {
  const asked = requirements.find((r) => r.groups.some((g) => groups.includes(g))) ?? requirements[0];
  return asked?.meaning ?? "";
}

function approvalDraft(a: Admission, ballot: Ballot, { id, subjects }: Waiting, meaning: string, name: string): Draft {
  const body = bodyOf(
    "approval",
    create(ApprovalSchema, {
      actionDigest: ballot.actionDigest,
      meaning: MEANINGS.get(meaning) ?? Meaning.UNSPECIFIED,
      signer: {
        acr: a.caller.method,
        authenticatedAt: formatTime(a.caller.authenticatedAtMs),
        printedName: name,
      },
      statement: ballot.statement,
      verdict: ballot.verdict,
    }),
  );
  return draft(a, "approval", body, [...link("request", id), ...link("subject", ...subjects)]);
}

const MEANINGS: ReadonlyMap<string, Meaning> = new Map([
  ["approved", Meaning.APPROVED],
  ["responsible", Meaning.RESPONSIBLE],
  ["reviewed", Meaning.REVIEWED],
  ["validated", Meaning.VALIDATED],
]);
