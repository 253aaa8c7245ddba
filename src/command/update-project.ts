/** A project's body is replaced as a whole; its name stays. */
import type { UpdateProjectRequest } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { draft, link, revised } from "./admission.ts";
import { bodyOf, checkProjectName } from "./body.ts";
import type { Deps } from "./context.ts";
import { withOwner } from "./owner.ts";
import { specOf, write } from "./write.ts";

export const updateProject = (
  deps: Deps,
  caller: Caller,
  request: UpdateProjectRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> => {
  const project = request.project?.name ?? "";
  const { requestId, validateOnly } = request;
  return write(
    deps,
    caller,
    specOf({ project, requestId, validateOnly }, "project.admin"),
    (a) => {
      const body = withOwner(a, bodyOf("project", request.project));
      checkProjectName(project);
      return revised(a, a.project, request.etag, draft(a, "project", body, link("revises", a.project)));
    },
    signal,
  );
};
