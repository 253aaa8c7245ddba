/** Makes a model, or revises one: a name below which versions are numbered. */
import type { CreateModelRequest, UpdateModelRequest } from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import { draft, named } from "./admission.ts";
import { bodyOf, checkName } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { withOwner } from "./owner.ts";
import { revise } from "./revise.ts";
import { specOf, write } from "./write.ts";

export const createModel = (deps: Deps, caller: Caller, request: CreateModelRequest, signal?: AbortSignal) => {
  checkName(request.model?.name ?? "");
  const body = bodyOf("model", request.model);
  return write(
    deps,
    caller,
    specOf(request, "model.write"),
    (a) => named(a, draft(a, "model", withOwner(a, body))),
    signal,
  );
};

export const updateModel = (deps: Deps, caller: Caller, request: UpdateModelRequest, signal?: AbortSignal) => {
  const body = bodyOf("model", request.model);
  return write(deps, caller, specOf(request, "model.write"), (a) => revise(a, "model", body, request.etag), signal);
};
