/** Records the exact state of a repository. A branch or a short hash names no state. */
import type { CreateCodeRequest } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { Fault } from "../std/faults.ts";
import { byContent, draft, link, resolveOptional } from "./admission.ts";
import { bodyOf, checkDigest, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { specOf, write } from "./write.ts";

const HASH = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

export const createCode = (deps: Deps, caller: Caller, request: CreateCodeRequest, signal?: AbortSignal) => {
  const { code } = request;
  for (const [field, hash] of [
    ["code.commit", code?.commit ?? ""],
    ["code.tree", code?.tree],
    ...(code?.submodules ?? []).map((s) => ["code.submodules", s.commit]),
  ] as const)
    if (hash !== undefined && !HASH.test(hash))
      throw new Fault(
        "CODE_NOT_PINNED",
        `${field} is not a full hash of 40 or 64 hex characters: a branch, tag or short hash names no exact state`,
        { fields: [{ description: "is not a full hash", field: field }] },
      );
  if (/^[a-z+]+:\/\/[^/@]*@/.test(code?.repository ?? ""))
    throw invalid("code.repository", "holds credentials: give the address without them");
  if (code?.diffDigest !== undefined) checkDigest("code.diff_digest", code.diffDigest);
  const body = bodyOf("code", code);
  return write(
    deps,
    caller,
    specOf(request, "run.write"),
    (a) => byContent(a, draft(a, "code", body, link("diff", resolveOptional(a, request.diff, ["artifact"], "diff")))),
    signal,
  );
};
