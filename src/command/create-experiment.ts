/** Makes an experiment, a named group of runs, or revises one. */
import type { CreateExperimentRequest, UpdateExperimentRequest } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { draft, named } from "./admission.ts";
import { bodyOf, checkName } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { withOwner } from "./owner.ts";
import { revise } from "./revise.ts";
import { specOf, write } from "./write.ts";

export const createExperiment = (
  deps: Deps,
  caller: Caller,
  request: CreateExperimentRequest,
  signal?: AbortSignal,
) => {
  checkName(request.experiment?.name ?? "");
  const body = bodyOf("experiment", request.experiment);
  return write(
    deps,
    caller,
    specOf(request, "run.write"),
    (a) => named(a, draft(a, "experiment", withOwner(a, body))),
    signal,
  );
};

export const updateExperiment = (
  deps: Deps,
  caller: Caller,
  request: UpdateExperimentRequest,
  signal?: AbortSignal,
) => {
  const body = bodyOf("experiment", request.experiment);
  return write(deps, caller, specOf(request, "run.write"), (a) => revise(a, "experiment", body, request.etag), signal);
};
