/**
 * Registers a version of a model: files that the ledger holds and that the runs put out which made it. A model of unknown origin is
 * not registered.
 */
import { create } from "@bufbuild/protobuf";
import { type ModelVersion, ModelVersionSchema } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import type { CreateModelVersionRequest } from "../../gen/ts/animus/datapilot/v1/model_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import {
  type Admission,
  byContent,
  checkOwnRun,
  draft,
  link,
  type Plan,
  resolve,
  resolveOptional,
} from "./admission.ts";
import { bodyOf, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { checkProducing } from "./create-dataset-version.ts";
import { checkCount } from "./limits.ts";
import { checkFromRuns, checkHeld, readFiles, type VersionFiles } from "./version-files.ts";
import { specOf, write } from "./write.ts";

const MAX_RUNS = 256;
const MAX_PARENTS = 256;

export async function createModelVersion(
  deps: Deps,
  caller: Caller,
  request: CreateModelVersionRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const { project, manifest, version } = request;
  const listing = { project, manifest, files: version?.files ?? [], contentDigest: version?.contentDigest ?? "" };
  const read = await readFiles(deps, caller, "model.write", listing, signal);
  return write(
    deps,
    caller,
    specOf(request, "model.write"),
    (a) => {
      if (read instanceof Fault) throw read;
      if (version === undefined) throw invalid("version", "is missing");
      return plan(a, request, version, read);
    },
    signal,
  );
}

function plan(a: Admission, request: CreateModelVersionRequest, version: ModelVersion, read: VersionFiles): Plan {
  const model = resolve(a, request.model, ["model"], "model");
  const manifest = resolveOptional(a, request.manifest, ["artifact"], "manifest");
  const card = resolveOptional(a, request.card, ["artifact"], "card");
  checkCount("parents", request.parents.length, MAX_PARENTS);
  const parents = [...new Set(request.parents.map((t) => resolve(a, t, ["model.version"], "parents")))];
  const runs = producing(a, request.producedBy);
  checkFromRuns(a, runs, read.files);
  const held = checkHeld(a, read.files);
  const body = bodyOf("model.version", create(ModelVersionSchema, { ...version, contentDigest: read.contentDigest }));
  return byContent(
    a,
    draft(a, "model.version", body, [
      ...link("model", model),
      ...link("produced_by", ...runs),
      // The manifest stands for the files that it lists.
      ...(manifest === undefined ? link("content", ...new Set(held)) : link("manifest", manifest)),
      ...link("card", card),
      ...link("parent", ...parents),
    ]),
  );
}

/** The runs that made it. Throws PROVENANCE_REQUIRED, RUN_NOT_SUCCEEDED. */
function producing(a: Admission, texts: readonly string[]): RecordId[] {
  checkCount("produced_by", texts.length, MAX_RUNS);
  if (texts.length === 0)
    throw new Fault("PROVENANCE_REQUIRED", "no run is named that made the model: name it in produced_by", {
      fields: [{ field: "produced_by", description: "is empty" }],
    });
  const runs = [...new Set(texts.map((t) => resolve(a, t, ["run"], "produced_by")))];
  for (const run of runs) {
    checkOwnRun(a, run);
    checkProducing(a, run);
  }
  return runs;
}
