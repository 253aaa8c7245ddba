/** Records the plan of a run, with a preview of what policies say to its start. A dry run records the preview alone. */
import { create } from "@bufbuild/protobuf";
import {
  type PlanRunRequest,
  type PlanRunResponse,
  PlanRunResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { type Admission, link, type Plan } from "./admission.ts";
import type { Deps } from "./context.ts";
import { decide } from "./decide.ts";
import { planDraft, type StoredPlan, withStoredPlan } from "./run-plan.ts";
import { perform, specOf } from "./write.ts";

export async function planRun(
  deps: Deps,
  caller: Caller,
  request: PlanRunRequest,
  signal?: AbortSignal,
): Promise<PlanRunResponse> {
  const spec = specOf(request, "run.write");
  const done = await withStoredPlan(
    deps,
    caller,
    request,
    (stored) => perform(deps, caller, spec, (a) => plan(a, stored, request.dryRun), signal),
    signal,
  );
  const { primary, decision } = done.plan;
  const run = done.resource(primary);
  const receipt = done.receipt(primary ?? decision);
  const preview = done.resource(decision);
  return create(PlanRunResponseSchema, {
    ...(run === undefined ? {} : { run }),
    ...(receipt === undefined ? {} : { receipt }),
    ...(preview === undefined ? {} : { decision: preview }),
  });
}

function plan(a: Admission, stored: StoredPlan | undefined, dryRun: boolean): Plan {
  const { draft: run, uses } = planDraft(a, stored);
  if (uses.refused !== undefined) return uses.refused;
  const { decision } = decide(a, { target: "run.start", subjects: ["$0"], before: [run], preview: true });
  if (!dryRun) return { drafts: [run, decision, ...uses.drafts], primary: 0, decision: 1 };
  // The plan is not recorded, so the preview is about the project, and nobody can derive its input again.
  const links = decision.links.filter((l) => !l.to.startsWith("$"));
  return { drafts: [{ ...decision, links: [...link("subject", a.project), ...links] }], decision: 0 };
}
