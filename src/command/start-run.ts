/**
 * Starts a run that policies admit: a plan that was recorded, or one that is recorded with its start. A refused plan stays, with the
 * decision that refused it; one that waits for approval is started by asking again once it is approved.
 *
 * The run's token is answered once, to the request that started the run; the ledger holds its SHA-256.
 */
import { create } from "@bufbuild/protobuf";
import {
  EnvironmentMatch,
  type ObservedEnvironment,
  RunStartSchema,
  RunTokenSchema,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import {
  type StartRunRequest,
  StartRunRequestSchema,
  type StartRunResponse,
  StartRunResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { projectName } from "../identity/ledger.ts";
import { createSecret, RUN_TOKEN_MAX_MS, type Secret } from "../identity/token.ts";
import type { Draft, DraftRef } from "../log/submission.ts";
import { environmentMatch } from "../policy/environment.ts";
import { isObject, type JsonObject } from "../record/json.ts";
import { digestOf, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { formatTime, parseTime } from "../std/ports.ts";
import { type Admission, draft, link, type Plan, resolve } from "./admission.ts";
import { bodyOf, checkDigest, checkPath, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { type Ask, decide, gated } from "./decide.ts";
import { planDraft, type StoredPlan, withStoredPlan } from "./run-plan.ts";
import { checkParent } from "./run-steps.ts";
import { perform, specOf, type Written } from "./write.ts";

/** Where the run and its start are: drafts of the group, or a run that was planned before. */
interface Started {
  readonly run: number | RecordId;
  readonly start?: number;
}

export async function startRun(
  deps: Deps,
  caller: Caller,
  request: StartRunRequest,
  signal?: AbortSignal,
): Promise<StartRunResponse> {
  checkObserved(request.observed);
  const secret = createSecret(deps.random, "run-token");
  const done = await withStoredPlan(
    deps,
    caller,
    request,
    (stored) =>
      perform(
        deps,
        caller,
        specOf(request, "run.write", { secrets: ["token"] }),
        (a) => plan(a, request, stored, secret),
        signal,
      ),
    signal,
  );
  const planned = waitingPlan(done);
  return planned === undefined
    ? answer(done, secret, request.validateOnly)
    : await askApproval(planned, (r) => startRun(deps, caller, r, signal), request);
}

function answer(done: Written<Started>, secret: Secret, validateOnly: boolean): StartRunResponse {
  const { value, decision, approvalRequest } = done.plan;
  const run = done.resource(value?.run);
  const start = done.resource(value?.start);
  const receipt = done.receipt(value?.start ?? decision ?? approvalRequest);
  const decided = done.resource(decision);
  const asked = done.resource(approvalRequest);
  const shown = start !== undefined && !done.repeated && !validateOnly;
  return create(StartRunResponseSchema, {
    ...(run === undefined ? {} : { run }),
    ...(start === undefined ? {} : { start }),
    ...(receipt === undefined ? {} : { receipt }),
    ...(decided === undefined ? {} : { decision: decided }),
    ...(asked === undefined ? {} : { approvalRequest: asked }),
    runToken: shown ? secret.text : "",
  });
}

/** The run that was recorded with its decision and must wait: a request for approval names it by its id. */
function waitingPlan(done: Written<Started>): RecordId | undefined {
  const { decision, value } = done.plan;
  if (value?.run !== 0 || value.start !== undefined || typeof decision !== "number") return undefined;
  const isWaiting = done.plan.drafts[decision]?.body["outcome"] === "OUTCOME_REQUIRE_APPROVAL";
  return isWaiting ? done.ids[0] : undefined;
}

const askApproval = (
  run: RecordId,
  start: (request: StartRunRequest) => Promise<StartRunResponse>,
  { project, host, observed }: StartRunRequest,
): Promise<StartRunResponse> =>
  start(
    create(StartRunRequestSchema, {
      project,
      run,
      requestId: `start:${digestOf(run)}`,
      ...(host === undefined ? {} : { host }),
      ...(observed === undefined ? {} : { observed }),
    }),
  );

function plan(a: Admission, request: StartRunRequest, stored: StoredPlan | undefined, secret: Secret): Plan<Started> {
  if ((request.run === "") === (request.plan === undefined)) {
    throw invalid("run", "and plan: give one of them, the recorded plan or a new one");
  }
  return request.run === "" ? planAndStart(a, request, stored, secret) : startPlanned(a, request, secret);
}

function planAndStart(
  a: Admission,
  request: StartRunRequest,
  stored: StoredPlan | undefined,
  secret: Secret,
): Plan<Started> {
  const { draft: run, uses } = planDraft(a, stored);
  if (uses.refused !== undefined) return withoutValue(uses.refused);
  const start = startBody(a, request, run.links.find((l) => l.rel === "environment")?.to, secret);
  const ask: Ask = { target: "run.start", subjects: ["$0"], before: [run], request: observedPart(start) };
  const made = gated(a, ask, (decision) => [startDraft(a, start, "$0", decision)]);
  // The plan is what a repeat is compared by; the start says nothing more of what was asked.
  return { ...made, drafts: [...made.drafts, ...uses.drafts], primary: 0, value: { run: 0, ...position(made) } };
}

const withoutValue = ({ drafts, decision }: Plan): Plan<Started> => ({
  drafts,
  ...(decision === undefined ? {} : { decision }),
});

const position = (made: Plan): { readonly start?: number } =>
  made.primary === undefined ? {} : { start: made.primary };

function startPlanned(a: Admission, request: StartRunRequest, secret: Secret): Plan<Started> {
  const run = resolve(a, request.run, ["run"], "run");
  const status = a.reader.get("run", run)?.value.status;
  if (status !== "planned" && status !== "awaiting_approval")
    throw new Fault("RUN_NOT_PLANNED", `the run is ${status ?? "unknown"}: only a planned run starts; plan a new one`, {
      metadata: { run, status: status ?? "" },
    });
  const record = a.reader.record(run)?.record;
  const target = (rel: string): RecordId | undefined => record?.links.find((l) => l.rel === rel)?.to;
  const step = record?.body["step"];
  checkParent(a, target("parent"), typeof step === "string" ? step : undefined);
  const start = startBody(a, request, target("environment"), secret);
  const ask: Ask = {
    target: "run.start",
    subjects: [run],
    request: observedPart(start),
    action: { method: "StartRun", request: { project: projectName(a.reader, a.project), run } },
    // Only who runs it can start it, and that one is given the token.
    apply: false,
  };
  const made = gated(withApproval(a, ask, run), ask, (decision) => [startDraft(a, start, run, decision)]);
  return { ...made, value: { run, ...position(made) } };
}

/** The admission with the approval of this very start, when it was given and nothing that it rests on has changed since. */
function withApproval(a: Admission, ask: Ask, run: RecordId): Admission {
  for (const { id, rel } of a.reader.dependents(run)) {
    if (rel !== "subject" || a.reader.get("approval", id)?.value.status !== "approved") continue;
    const { body } = a.reader.record(id)?.record ?? {};
    const end = body?.["expires_at"];
    if (typeof end !== "string" || (parseTime(end) ?? 0) <= a.nowMs) continue;
    const approved = { ...a, approvalRequest: id };
    const { actionDigest, evidenceDigest } = decide(approved, ask);
    if (body?.["action_digest"] === actionDigest && body["evidence_digest"] === evidenceDigest) return approved;
  }
  return a;
}

function startBody(
  a: Admission,
  { host, observed }: StartRunRequest,
  lock: DraftRef | undefined,
  secret: Secret,
): JsonObject {
  const seen =
    observed === undefined
      ? undefined
      : bodyOf("run.start", create(RunStartSchema, { observed, token: tokenOf(a, secret) }));
  const pinned = lock === undefined ? undefined : a.reader.record(lock as RecordId)?.record.body;
  const compared =
    pinned === undefined ? undefined : environmentMatch(pinned, isObject(seen?.["observed"]) ? seen["observed"] : null);
  return bodyOf(
    "run.start",
    create(RunStartSchema, {
      ...(host === undefined ? {} : { host }),
      ...(observed === undefined ? {} : { observed }),
      environmentMatch: compared === undefined ? EnvironmentMatch.UNSPECIFIED : MATCHES[compared.match],
      differences: [...(compared?.differences ?? [])],
      token: tokenOf(a, secret),
    }),
  );
}

const MATCHES = {
  match: EnvironmentMatch.MATCH,
  mismatch: EnvironmentMatch.MISMATCH,
  unknown: EnvironmentMatch.UNKNOWN,
} as const;

const tokenOf = (a: Admission, { sha256 }: Secret) =>
  create(RunTokenSchema, { sha256, expiresAt: formatTime(a.nowMs + RUN_TOKEN_MAX_MS) });

/** What policies are told of where the run starts. */
function observedPart(start: JsonObject): { readonly observed?: JsonObject } {
  const { observed } = start;
  return isObject(observed) ? { observed } : {};
}

const startDraft = (a: Admission, body: JsonObject, run: DraftRef, decision: DraftRef): Draft =>
  draft(a, "run.start", body, [...link("run", run), ...link("decision", decision)]);

function checkObserved(observed: ObservedEnvironment | undefined): void {
  if (observed?.imageDigest !== undefined) checkDigest("observed.image_digest", observed.imageDigest);
  if (observed?.packagesDigest !== undefined) checkDigest("observed.packages_digest", observed.packagesDigest);
  for (const { path, digest } of observed?.lockfiles ?? []) {
    checkPath("observed.lockfiles.path", path);
    checkDigest("observed.lockfiles.digest", digest);
  }
}
