/** Makes an environment, or revises one: a name below which locks are numbered. */
import type { CreateEnvironmentRequest, UpdateEnvironmentRequest } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { draft, named } from "./admission.ts";
import { bodyOf, checkName } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { withOwner } from "./owner.ts";
import { revise } from "./revise.ts";
import { specOf, write } from "./write.ts";

export const createEnvironment = (
  deps: Deps,
  caller: Caller,
  request: CreateEnvironmentRequest,
  signal?: AbortSignal,
) => {
  checkName(request.environment?.name ?? "");
  const body = bodyOf("environment", request.environment);
  return write(
    deps,
    caller,
    specOf(request, "environment.write"),
    (a) => named(a, draft(a, "environment", withOwner(a, body))),
    signal,
  );
};

export const updateEnvironment = (
  deps: Deps,
  caller: Caller,
  request: UpdateEnvironmentRequest,
  signal?: AbortSignal,
) => {
  const body = bodyOf("environment", request.environment);
  return write(
    deps,
    caller,
    specOf(request, "environment.write"),
    (a) => revise(a, "environment", body, request.etag),
    signal,
  );
};
