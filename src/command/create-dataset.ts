/** Makes a dataset, or revises one: a name below which versions are numbered. */
import type { CreateDatasetRequest, UpdateDatasetRequest } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { draft, named } from "./admission.ts";
import { bodyOf, checkName, textOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { withOwner } from "./owner.ts";
import { revise } from "./revise.ts";
import { specOf, write } from "./write.ts";

export const createDataset = (
  deps: Deps,
  caller: Caller,
  request: CreateDatasetRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(
    deps,
    caller,
    specOf(request, "dataset.write"),
    (a) => {
      const body = withOwner(a, bodyOf("dataset", request.dataset));
      checkName(textOf(body, "name"));
      return named(a, draft(a, "dataset", body));
    },
    signal,
  );

export const updateDataset = (
  deps: Deps,
  caller: Caller,
  request: UpdateDatasetRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(
    deps,
    caller,
    specOf(request, "dataset.write"),
    (a) => revise(a, "dataset", withOwner(a, bodyOf("dataset", request.dataset)), request.etag),
    signal,
  );
