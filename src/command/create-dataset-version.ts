/**
 * Registers a version of a dataset: its files, where they came from, and what it was made from.
 *
 * What the ledger holds is checked against the store's artifacts; what a run made is checked against what the run reported; what
 * somebody else holds is what the caller declares.
 */
import { create } from "@bufbuild/protobuf";
import { Custody, type DatasetVersion, DatasetVersionSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import type { CreateDatasetVersionRequest } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
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
import { admitUses } from "./decide.ts";
import { checkCount } from "./limits.ts";
import { checkFromRuns, checkHeld, readFiles, type VersionFiles } from "./version-files.ts";
import { specOf, write } from "./write.ts";

const MAX_PARENTS = 1_000;

export async function createDatasetVersion(
  deps: Deps,
  caller: Caller,
  request: CreateDatasetVersionRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const { project, manifest, version } = request;
  const listing = { project, manifest, files: version?.files ?? [], contentDigest: version?.contentDigest ?? "" };
  const read = await readFiles(deps, caller, "dataset.write", listing, signal);
  return write(
    deps,
    caller,
    specOf(request, "dataset.write"),
    (a) => {
      if (read instanceof Fault) throw read;
      if (version === undefined) throw invalid("version", "is missing");
      return plan(a, request, version, read);
    },
    signal,
  );
}

function plan(a: Admission, request: CreateDatasetVersionRequest, version: DatasetVersion, read: VersionFiles): Plan {
  const dataset = resolve(a, request.dataset, ["dataset"], "dataset");
  const schema = resolveOptional(a, request.schema, ["schema"], "schema");
  const manifest = resolveOptional(a, request.manifest, ["artifact"], "manifest");
  const profile = resolveOptional(a, request.profile, ["artifact"], "profile");
  checkCount("derived_from", request.derivedFrom.length, MAX_PARENTS);
  const parents = [...new Set(request.derivedFrom.map((t) => resolve(a, t, ["dataset.version"], "derived_from")))];
  const run = resolveOptional(a, request.producedBy, ["run"], "produced_by");
  checkOwnRun(a, run);
  if (run !== undefined) checkProducing(a, run);
  checkFromRuns(a, run === undefined ? [] : [run], read.files);
  const held = version.custody === Custody.LEDGER ? checkHeld(a, read.files) : [];
  if (version.custody === Custody.EXTERNAL) checkAddresses(version);
  if (version.rows !== undefined && !(Number.isSafeInteger(version.rows) && version.rows >= 0)) {
    throw invalid("version.rows", "is not a number of rows");
  }
  const body = bodyOf(
    "dataset.version",
    create(DatasetVersionSchema, { ...version, contentDigest: read.contentDigest }),
  );
  const uses = admitUses(a, parents);
  if (uses.refused !== undefined) return uses.refused;
  return byContent(
    a,
    draft(a, "dataset.version", body, [
      ...link("dataset", dataset),
      ...link("schema", schema),
      // The manifest stands for the files that it lists.
      ...(manifest === undefined ? link("content", ...new Set(held)) : link("manifest", manifest)),
      ...link("profile", profile),
      ...link("derived_from", ...parents),
      ...link("produced_by", run),
    ]),
    ...uses.drafts,
  );
}

/** A run makes things while it runs; what it made may be registered when it succeeded. */
export function checkProducing(a: Admission, run: RecordId): void {
  const status = a.reader.get("run", run)?.value.status;
  if (status === "running" || status === "succeeded") return;
  throw new Fault(
    "RUN_NOT_SUCCEEDED",
    `the run is ${status ?? "unknown"}: only a running or succeeded run makes versions`,
    {
      metadata: { run, status: status ?? "" },
    },
  );
}

function checkAddresses(version: DatasetVersion): void {
  const at = version.files.findIndex((f) => f.uri === undefined || f.uri === "");
  if (at >= 0) throw invalid(`version.files[${at}].uri`, "is missing: external files say where they lie");
}
