/**
 * Decisions: the policies of the ledger and of the project judge what is asked, and what they say becomes a record whatever it
 * is. Runs inside admission: the policies and everything that the input was read from are guarded (P4).
 *
 * - `gated` is what commands use: the decision first, then the effect when it is allowed, or a request for approval when it
 *   waits. A refusal writes the decision alone.
 * - Without a policy the decision allows, and is recorded too; only what `ONLY_WHERE_BOUND` names is decided only where a
 *   policy is bound.
 */
import { keys } from "../fold/view.ts";
import { groupsOf, rolesOf } from "../identity/authorise.ts";
import { ledgerOf } from "../identity/ledger.ts";
import type { Draft, DraftLink, DraftRef } from "../log/submission.ts";
import { actionDigest, approvalRequestBody, decisionBody, evidenceDigest } from "../policy/decision.ts";
import { evaluate, PolicyCache } from "../policy/engine.ts";
import { type PendingDraft, pendingId, withDrafts } from "../policy/fact-reader.ts";
import { type ActorPart, deriveInput, type RequestPart } from "../policy/input.ts";
import type { Judgement, Outcome, PolicyInForce } from "../policy/judgement.ts";
import { ONLY_WHERE_BOUND, type Target } from "../policy/targets.ts";
import { projectOf } from "../query/resolve.ts";
import type { JsonObject } from "../record/json.ts";
import { sortLinks } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import { parseRecordId, type RecordId } from "../std/brand.ts";
import { formatTime, parseTime } from "../std/ports.ts";
import { type Admission, draft, findByContent, link, type Plan } from "./admission.ts";

/** Days for which a request for approval stays open, when no rule says less. */
const APPROVAL_MS = 7 * 86_400_000;

export interface Ask {
  readonly target: Target;
  /** What is judged; may be earlier drafts of the group. */
  readonly subjects: readonly DraftRef[];
  /** Where the decision is recorded; the project of the request when absent. */
  readonly project?: RecordId;
  /** What the caller asks for: from, to, reason, alias, role, member, roots. */
  readonly request?: RequestPart;
  /** The report that is judged, at `quality.gate`. */
  readonly report?: DraftRef;
  /** Drafts of the group that come before the decision. */
  readonly before?: readonly Draft[];
  /** Nothing is asked for but the answer. */
  readonly preview?: boolean;
  /** The request as `actionOf` writes it: lets a decision wait for approval. */
  readonly action?: JsonObject;
  /** Whether the deciding vote carries the request out; true when absent. */
  readonly apply?: boolean;
}

export interface Decided {
  readonly outcome: Outcome;
  readonly judgement: Judgement;
  readonly decision: Draft;
  /** For an approval request or a vote: digests of what is asked and of what it rests on. */
  readonly actionDigest: string;
  readonly evidenceDigest: string;
}

const cache = new PolicyCache();

/** The id under which a draft of the group is shown to the input. */
const idOf = (ref: DraftRef): RecordId => parseRecordId(ref) ?? pendingId(Number(ref.slice(1)));

/** The policies in force for a target: the ledger's and the project's. */
export function policiesInForce(a: Admission, target: Target, project: RecordId = a.project): PolicyInForce[] {
  const ledger = ledgerOf(a.reader);
  return [...new Set([ledger, project])].flatMap((owner) =>
    (a.reader.get("policies", keys.policies(owner, target))?.value.policies ?? []).flatMap(({ id, mode }) => {
      const body = a.reader.record(id)?.record.body;
      return body === undefined ? [] : [{ record: id, mode, body, ledger: owner === ledger }];
    }),
  );
}

export function decide(a: Admission, ask: Ask): Decided {
  const project = ask.project ?? a.project;
  const policies = policiesInForce(a, ask.target, project);
  const { reader, pending } = withDrafts(
    a.reader,
    (ask.before ?? []).map((d) => pendingDraft(a, d)),
    formatTime(a.nowMs),
  );
  const { input, facts } = deriveInput(
    {
      target: ask.target,
      subject: idOf(assertDefined(ask.subjects[0], "a decision has a subject")),
      request: ask.request ?? {},
      actor: actorPart(a, project),
      now: formatTime(a.nowMs),
      tree_size: a.reader.size,
      preview: ask.preview ?? false,
      approvals: approvalsOf(a),
      ...(ask.report === undefined ? {} : { report: idOf(ask.report) }),
      pending: new Set(pending),
    },
    reader,
  );
  const judgement = evaluate(policies, input, { cache });
  const body = decisionBody({ target: ask.target, input, judgement, preview: ask.preview ?? false });
  const links: DraftLink[] = [
    ...link("subject", ...new Set(ask.subjects)),
    ...link("policy", ...judgement.policies.map((p) => p.record)),
    ...link("approval", ...approvalsOf(a)),
    ...link("fact", ...facts, ask.report?.startsWith("$") === true ? ask.report : undefined),
  ];
  return {
    outcome: judgement.outcome,
    judgement,
    decision: draft(a, "decision", body, links, project),
    actionDigest: actionDigest({ target: ask.target, subjects: ask.subjects, action: ask.action ?? {}, policies }),
    evidenceDigest: evidenceDigest(input),
  };
}

/** Who asks, as policies see him: with the groups and roles that he has where the decision is made. */
function actorPart(a: Admission, project: RecordId): ActorPart {
  const { caller, reader, nowMs } = a;
  return {
    principal: caller.principal,
    type: caller.type,
    groups: groupsOf(reader, caller.principal, project, nowMs),
    roles: rolesOf(reader, caller.principal, project, nowMs),
    auth_age_s: Math.max(0, Math.floor((nowMs - caller.authenticatedAtMs) / 1_000)),
  };
}

function pendingDraft(a: Admission, { actor, body, kind, links, project }: Draft): PendingDraft {
  return {
    actor,
    body,
    kind,
    links: sortLinks(links.map(({ rel, to }) => ({ rel, to: idOf(to) }))),
    project: project === undefined ? a.project : idOf(project),
  };
}

function approvalsOf(a: Admission): RecordId[] {
  if (a.approvalRequest === undefined) return [];
  return (a.reader.get("approval", a.approvalRequest)?.value.votes ?? []).map((v) => v.id);
}

/** A decision on what is decided only where a policy is bound; undefined where none is. */
export function decideWhereBound(a: Admission, ask: Ask): Decided | undefined {
  const bound = policiesInForce(a, ask.target, ask.project).length > 0;
  return bound || !ONLY_WHERE_BOUND.has(ask.target) ? decide(a, ask) : undefined;
}

/** The plan of a change that policies judge: decision and effect, or decision and request for approval, or the decision. */
export function gated(
  a: Admission,
  ask: Ask,
  effect: (decision: DraftRef, approvals: readonly RecordId[]) => readonly Draft[],
): Plan {
  const before = ask.before ?? [];
  const decided = decide(a, ask);
  const at = before.length;
  const drafts = [...before, decided.decision];
  if (decided.outcome === "ALLOW") {
    return { drafts: [...drafts, ...effect(`$${at}`, approvalsOf(a))], primary: at + 1, decision: at };
  }
  if (decided.outcome !== "REQUIRE_APPROVAL" || ask.action === undefined) return { drafts, decision: at };
  return waiting(a, ask, decided, drafts);
}

/** A decision that waits, with the request for its approval: the open one for the same thing when there is one. */
function waiting(a: Admission, ask: Ask, decided: Decided, drafts: readonly Draft[]): Plan {
  const at = drafts.length - 1;
  const request = draft(
    a,
    "approval.request",
    approvalRequestBody({
      target: ask.target,
      action: ask.action ?? {},
      actionDigest: decided.actionDigest,
      evidenceDigest: decided.evidenceDigest,
      requirements: decided.judgement.requirements,
      expiresAt: formatTime(a.nowMs + lifeMs(decided.judgement)),
      apply: ask.apply ?? true,
    }),
    [...link("subject", ...new Set(ask.subjects)), ...link("decision", `$${at}`)],
  );
  const open = openRequest(a, request);
  if (open === undefined) return { drafts: [...drafts, request], decision: at, approvalRequest: at + 1 };
  const decision = a.reader.get("approval", open)?.value.decision;
  return { drafts: [], ...(decision === undefined ? {} : { decision }), approvalRequest: open };
}

const lifeMs = ({ requirements }: Judgement): number =>
  Math.min(APPROVAL_MS, ...requirements.map((r) => (r.approval.expiresS ?? APPROVAL_MS / 1_000) * 1_000));

function openRequest(a: Admission, request: Draft): RecordId | undefined {
  const id = findByContent(a, { ...request, links: [] });
  if (id === undefined || a.reader.get("approval", id)?.value.status !== "open") return undefined;
  const end = a.reader.record(id)?.record.body["expires_at"];
  return typeof end === "string" && (parseTime(end) ?? 0) > a.nowMs ? id : undefined;
}

export interface Uses {
  /** Decisions of the owners' projects, for the end of the group. */
  readonly drafts: readonly Draft[];
  /** What is answered instead when an owner's policy does not allow the use. */
  readonly refused?: Plan;
}

/** Lets the policies of other projects judge the use of their dataset versions. */
export function admitUses(a: Admission, versions: readonly RecordId[]): Uses {
  const drafts: Draft[] = [];
  for (const id of versions) {
    const owner = projectOf(a.reader, id);
    if (owner === undefined || owner === a.project) continue;
    const decided = decideWhereBound(a, { target: "dataset.version.use", subjects: [id], project: owner });
    if (decided === undefined) continue;
    if (decided.outcome !== "ALLOW") return { drafts: [], refused: { drafts: [decided.decision], decision: 0 } };
    drafts.push(decided.decision);
  }
  return { drafts };
}
