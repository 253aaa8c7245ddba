/** Makes a version of a policy, as a draft that binds nobody. It must compile and pass its own tests to be recorded at all. */

import type { CreatePolicyRequest } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { keys } from "../fold/view.ts";
import { text } from "../policy/compile.ts";
import { assertPolicy } from "../policy/engine.ts";
import type { RecordId } from "../std/brand.ts";
import { type Admission, byContent, draft, link } from "./admission.ts";
import { bodyOf, checkName } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { specOf, write } from "./write.ts";

export async function createPolicy(
  deps: Deps,
  caller: Caller,
  request: CreatePolicyRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const body = bodyOf("policy", request.policy);
  const name = checkName(text(body["name"]));
  const permission = body["target"] === "quality.gate" ? "quality.write" : "policy.write";
  // The tests take time, which admission has not; a repeat or a caller without permission pays it as well.
  assertPolicy(body);
  return write(
    deps,
    caller,
    specOf(request, permission),
    (a) => byContent(a, draft(a, "policy", body, link("supersedes", newestOf(a, name)))),
    signal,
  );
}

/** The newest version of a name. */
function newestOf(a: Admission, name: string): RecordId | undefined {
  const series = keys.series(a.project, name);
  const n = a.reader.get("count", keys.count(series, "policy"))?.value.n;
  return n === undefined ? undefined : a.reader.get("nth", keys.nth(series, "policy", n))?.value.id;
}
