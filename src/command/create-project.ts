/** A project is made together with the binding of who administers it, so that none is ever without an administrator. */
import type { CreateProjectRequest } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { findPrincipal } from "../query/resolve.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Admission, actorOf, draft, named } from "./admission.ts";
import { bodyOf, checkProjectName, textOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { withOwner } from "./owner.ts";
import { ledgerSpecOf, write } from "./write.ts";

export const createProject = (
  deps: Deps,
  caller: Caller,
  request: CreateProjectRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(
    deps,
    caller,
    ledgerSpecOf(request, "project.create", { createsProject: true }),
    (a) => {
      const body = withOwner(a, bodyOf("project", request.project));
      checkProjectName(textOf(body, "name"));
      const principal = administrator(a, request.admin);
      return named(
        a,
        { kind: "project", actor: actorOf(caller), body, links: [], requestId: a.requestId },
        draft(a, "role.binding", { role: "project-admin", principal }, [], "$0"),
      );
    },
    signal,
  );

function administrator(a: Admission, text: string): RecordId {
  const id = text === "" ? a.caller.principal : findPrincipal(a.reader, text);
  if (id !== undefined && a.reader.get("entity", id)?.value.status !== "disabled") return id;
  throw new Fault("NO_ADMIN", "a project needs an administrator: name a principal that is there and not disabled", {
    fields: [{ field: "admin", description: "names no principal that can administer" }],
  });
}
