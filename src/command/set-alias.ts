/** Points an alias at a version. It moves at once, and its records say what it named when. */
import { create } from "@bufbuild/protobuf";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { type SetAliasRequest, SetAliasRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { keys } from "../fold/view.ts";
import { projectName } from "../identity/ledger.ts";
import { assertDefined } from "../std/assert.ts";
import { Fault } from "../std/faults.ts";
import { actionOf } from "./action.ts";
import { type Admission, draft, link, type Plan, resolve } from "./admission.ts";
import { checkName, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { gated } from "./decide.ts";
import { specOf, write } from "./write.ts";

export const setAlias = (
  deps: Deps,
  caller: Caller,
  request: SetAliasRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> => write(deps, caller, specOf(request, "alias.write"), (a) => planAlias(a, request), signal);

/** What the request comes to, also run by the vote that completes its approval. */
export function planAlias(a: Admission, request: SetAliasRequest): Plan {
  const name = checkAlias(request.alias);
  const target = resolve(a, request.target, ["model.version", "dataset.version", "environment.lock"], "target");
  const entity = assertDefined(a.reader.get("entity", target)?.value, "a version has a row");
  if (entity.project !== a.project) throw invalid("target", "is of another project: name that project in the request");
  const parent = assertDefined(entity.parent, "a version has a parent");
  const previous = a.reader.get("alias", keys.alias(parent, name))?.value;
  if (previous?.target === target) return { drafts: [], existing: { id: previous.id } };
  const said = create(SetAliasRequestSchema, {
    ...request,
    project: projectName(a.reader, a.project),
    target,
  });
  return gated(
    a,
    { action: actionOf("SetAlias", said), request: { alias: name }, subjects: [target], target: "alias.set" },
    (decision, approvals) => [
      draft(a, "alias", { entity: parent, name }, [
        ...link("target", target),
        ...link("previous", previous?.id),
        ...link("decision", decision),
        ...link("approval", ...approvals),
      ]),
    ],
  );
}

/** Names that select versions, or that readers take for the newest. */
const RESERVED = /^(?:v?[1-9][0-9]*|latest|newest|head)$/;

function checkAlias(text: string): string {
  const name = checkName(text);
  if (!RESERVED.test(name)) return name;
  throw new Fault("ALIAS_RESERVED", `${name} reads like a version: take a name such as production`, {
    fields: [{ description: "is reserved", field: "alias" }],
  });
}
