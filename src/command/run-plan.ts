/**
 * The plan of a run as a draft: what the request names is resolved, what the client saw is compared with what is recorded. Shared by
 * planning and by starting without a plan.
 */
import { create } from "@bufbuild/protobuf";
import {
  CiJobSchema,
  type Run,
  RunInputSchema,
  RunSchema,
} from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import type { RunPlan } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { callerPermissions } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { Draft } from "../log/submission.ts";
import type { JsonObject } from "../record/json.ts";
import { parseRecordId, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Admission, draft, link, resolve, resolveOptional } from "./admission.ts";
import { bodyOf, checkDigest, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { admitUses, type Uses } from "./decide.ts";
import { checkCount } from "./limits.ts";
import { checkParent, checkSteps } from "./run-steps.ts";
import { isRefusal, type Written } from "./write.ts";

const MAX_INPUTS = 500;
const MAX_PARAMS = 1_000;

/** A plan whose personal values are references. */
export interface StoredPlan {
  readonly plan: RunPlan;
  readonly run: Run;
}

export interface PlannedRun {
  readonly draft: Draft;
  readonly uses: Uses;
}

/** Stands for a value that is not stored. */
const UNSTORED = `personal:sha256:${"0".repeat(64)}`;

/**
 * Stores who started the CI job apart from the record, then writes. What was stored for a request that recorded nothing new is
 * removed again.
 */
export async function withStoredPlan<T>(
  deps: Deps,
  caller: Caller,
  request: { readonly project: string; readonly validateOnly: boolean; readonly plan?: RunPlan | undefined },
  work: (stored: StoredPlan | undefined) => Promise<Written<T>>,
  signal?: AbortSignal,
): Promise<Written<T>> {
  const run = request.plan?.run;
  const initiator = run?.ci?.initiator;
  const store = initiator !== undefined && !request.validateOnly && mayPlan(deps, caller, request.project);
  const reference = store ? await deps.personal.put(initiator, signal) : UNSTORED;
  const discard = async (): Promise<void> => {
    if (store) await deps.personal.remove(reference, signal);
  };
  const kept =
    run?.ci === undefined || initiator === undefined
      ? run
      : create(RunSchema, { ...run, ci: create(CiJobSchema, { ...run.ci, initiator: reference }) });
  const stored = request.plan === undefined || kept === undefined ? undefined : { plan: request.plan, run: kept };
  const done = await work(stored).catch(async (error: unknown) => {
    // An outcome that is not known may have been recorded: only a refusal leaves nothing that names the value.
    if (isRefusal(error)) await discard();
    throw error;
  });
  if (done.repeated || done.plan.drafts.every((d) => d.kind !== "run")) await discard();
  return done;
}

function mayPlan(deps: Deps, caller: Caller, name: string): boolean {
  using reader = deps.log.index.reader();
  const project = findProject(reader, name);
  return project !== undefined && callerPermissions(reader, caller, project, deps.clock.now()).has("run.write");
}

/** The draft of a plan. Throws INPUT_MISMATCH, PARENT_NOT_RUNNING, STEP_UNKNOWN, STEP_NOT_READY, RETRY_OF_ACTIVE. */
export function planDraft(a: Admission, stored: StoredPlan | undefined): PlannedRun {
  if (stored === undefined) throw invalid("plan.run", "is missing");
  const { plan, run } = stored;
  checkCount("plan.run.inputs", run.inputs.length, MAX_INPUTS);
  checkCount("plan.run.params", run.params.length, MAX_PARAMS);
  checkSteps(run.steps);
  const resolved = run.inputs.map((input, i) => resolveInput(a, input, `plan.run.inputs[${i}]`));
  const inputs = [...new Set(resolved.map((r) => r.record as RecordId))];
  const body = bodyOf("run", create(RunSchema, { ...run, inputs: resolved }));
  const code = resolveOptional(a, plan.code, ["code"], "plan.code");
  const environment = resolveOptional(a, plan.environmentLock, ["environment.lock"], "plan.environment_lock");
  const experiment = resolveOptional(a, plan.experiment, ["experiment"], "plan.experiment");
  const parent = resolveOptional(a, plan.parent, ["run"], "plan.parent");
  const retryOf = resolveOptional(a, plan.retryOf, ["run"], "plan.retry_of");
  checkParent(a, parent, run.step);
  checkRetry(a, retryOf);
  const links = [
    ...link("input", ...inputs),
    ...link("code", code),
    ...link("environment", environment),
    ...link("experiment", experiment),
    ...link("parent", parent),
    ...link("retry_of", retryOf),
  ];
  const data = inputs.filter((id) => a.reader.record(id)?.record.kind === "dataset.version");
  return { draft: draft(a, "run", body, links), uses: admitUses(a, data) };
}

/** The input with the id of its record; the name that was asked for is kept beside it. */
function resolveInput(a: Admission, input: Run["inputs"][number], at: string): Run["inputs"][number] {
  const { record: text, role, observedDigest } = input;
  const record = resolve(a, text, ["dataset.version", "model.version"], `${at}.record`);
  if (observedDigest !== undefined) {
    checkDigest(`${at}.observed_digest`, observedDigest);
    checkObserved(a.reader.record(record)?.record.body ?? {}, observedDigest, text, record);
  }
  const requestedAs = input.requestedAs ?? (parseRecordId(text) === undefined ? text : undefined);
  return create(RunInputSchema, {
    record,
    role,
    ...(observedDigest === undefined ? {} : { observedDigest }),
    ...(requestedAs === undefined ? {} : { requestedAs }),
  });
}

function checkObserved(version: JsonObject, observed: string, text: string, record: RecordId): void {
  const recorded = version["content_digest"];
  if (recorded === observed) return;
  throw new Fault(
    "INPUT_MISMATCH",
    `what was read as ${text} is not what is recorded: fetch the version again, or register what you have`,
    { metadata: { observed, record, recorded: typeof recorded === "string" ? recorded : "" } },
  );
}

const ACTIVE: ReadonlySet<string> = new Set(["planned", "awaiting_approval", "running"]);

function checkRetry(a: Admission, run: RecordId | undefined): void {
  const status = run === undefined ? undefined : a.reader.get("run", run)?.value.status;
  if (run === undefined || status === undefined || !ACTIVE.has(status)) return;
  throw new Fault("RETRY_OF_ACTIVE", `the run to try again is ${status}: wait for its end, or cancel it`, {
    metadata: { run, status },
  });
}
