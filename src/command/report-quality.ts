/**
 * Measurements of a dataset version, and the gate's decision on them, in one group: no report stands without a judgement. The
 * newest complete report decides; an incomplete one is recorded and judged by nobody.
 */
import type { EvaluateGateRequest, ReportQualityRequest } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { Caller } from "../identity/caller.ts";
import type { RecordId } from "../std/brand.ts";
import { type Admission, created, draft, link, type Plan, resolve, resolveOptional } from "./admission.ts";
import { bodyOf, checkTime, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { decide } from "./decide.ts";
import { checkCount } from "./limits.ts";
import { specOf, write } from "./write.ts";

const MAX_MEASUREMENTS = 5_000;

export const reportQuality = (
  deps: Deps,
  caller: Caller,
  request: ReportQualityRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(deps, caller, specOf(request, "quality.report"), (a) => planReport(a, request), signal);

function planReport(a: Admission, request: ReportQualityRequest): Plan {
  const version = resolve(a, request.datasetVersion, ["dataset.version"], "dataset_version");
  checkOwnVersion(a, version);
  const run = resolveOptional(a, request.run, ["run"], "run");
  const raw = resolveOptional(a, request.raw, ["artifact"], "raw");
  checkCount("report.measurements", request.report?.measurements.length ?? 0, MAX_MEASUREMENTS);
  const fraction = request.report?.sampleFraction;
  if (fraction !== undefined && !(fraction > 0 && fraction <= 1)) {
    throw invalid("report.sample_fraction", "is not above 0 and up to 1");
  }
  const measured = request.report?.measuredAt;
  if (measured !== undefined) checkTime("report.measured_at", measured);
  const report = draft(a, "quality.report", bodyOf("quality.report", request.report), [
    ...link("dataset_version", version),
    ...link("run", run),
    ...link("raw", raw),
  ]);
  if (request.report?.complete !== true) return created(report);
  const { decision } = decide(a, { target: "quality.gate", subjects: [version], before: [report], report: "$0" });
  return { drafts: [report, decision], primary: 0, decision: 1 };
}

/** Judges the newest complete report of a version again, by the rules of now. */
export const evaluateGate = (
  deps: Deps,
  caller: Caller,
  request: EvaluateGateRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> =>
  write(deps, caller, specOf(request, "quality.report"), (a) => planGate(a, request), signal);

function planGate(a: Admission, request: EvaluateGateRequest): Plan {
  const version = resolve(a, request.datasetVersion, ["dataset.version"], "dataset_version");
  checkOwnVersion(a, version);
  const report = newestCompleteReport(a, version);
  if (report === undefined) {
    throw invalid("dataset_version", "has no complete report: report measurements first");
  }
  const { decision } = decide(a, { target: "quality.gate", subjects: [version], report });
  return { drafts: [decision], primary: 0, decision: 0 };
}

/** The quality of a version is judged where it lies. */
function checkOwnVersion(a: Admission, version: RecordId): void {
  if (a.reader.record(version)?.record.project !== a.project) {
    throw invalid("dataset_version", "belongs to another project: report where it lies");
  }
}

function newestCompleteReport(a: Admission, version: RecordId): RecordId | undefined {
  let newest: RecordId | undefined;
  for (const { id, rel } of a.reader.dependents(version)) {
    const record = rel === "dataset_version" ? a.reader.record(id)?.record : undefined;
    if (record?.kind === "quality.report" && record.body["complete"] === true) newest = id;
  }
  return newest;
}
