/** Ends a run. A run that was called LOST may still say how it ended; the record then says that it came late. */

import { RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import type { FinishRunRequest } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Admission, byContent, checkOwnRun, draft, link, type Plan, resolve } from "./admission.ts";
import { bodyOf, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { specOf, write } from "./write.ts";

const WORDS: Readonly<Record<string, string>> = {
  RUN_STATUS_CANCELED: "canceled",
  RUN_STATUS_FAILED: "failed",
  RUN_STATUS_SUCCEEDED: "succeeded",
};

/** Steps of a plan that no child run has succeeded in. */
function openSteps(a: Admission, run: RecordId): string[] {
  const steps = (a.reader.record(run)?.record.body["steps"] ?? []) as readonly { readonly name: string }[];
  if (steps.length === 0) return [];
  const done = new Set<string>();
  for (const { id, rel } of a.reader.dependents(run)) {
    const step =
      rel === "parent" && a.reader.get("run", id)?.value.status === "succeeded"
        ? a.reader.record(id)?.record.body["step"]
        : undefined;
    if (typeof step === "string") done.add(step);
  }
  return steps.map((s) => s.name).filter((name) => !done.has(name));
}

function plan(a: Admission, run: RecordId, said: JsonObject): Plan {
  checkOwnRun(a, run);
  const row = a.reader.get("run", run)?.value;
  const body = row?.status === "lost" ? { ...said, late: true } : said;
  const finish = draft(a, "run.finish", body, [...link("run", run), ...link("last", row?.last)]);
  const status = WORDS[body["status"] as string];
  // The same end said again is the same record.
  if (row?.finish !== undefined && row.status === status) return { drafts: [], existing: { id: row.finish } };
  if (row?.status !== "running" && row?.status !== "lost")
    throw new Fault("RUN_NOT_RUNNING", `the run is ${row?.status ?? "unknown"}: only a running run can end`, {
      metadata: { run, status: row?.status ?? "" },
    });
  const batches = Number(body["batches"] ?? 0);
  if (batches !== row.batches)
    throw new Fault(
      "BATCHES_INCOMPLETE",
      `the run reported ${row.batches} batches, the end says ${batches}: deliver what is missing first`,
      { metadata: { recorded: String(row.batches), run } },
    );
  const children = a.reader.get("children-active", run)?.value.n ?? 0;
  if (children > 0)
    throw new Fault("CHILDREN_ACTIVE", `${children} steps of the run are still running: end them first`, {
      metadata: { run },
    });
  const open = status === "succeeded" ? openSteps(a, run) : [];
  if (open.length > 0)
    throw new Fault("STEPS_INCOMPLETE", `steps have not succeeded: ${open.join(", ")}`, { metadata: { run } });
  return byContent(a, finish);
}

export const finishRun = (deps: Deps, caller: Caller, request: FinishRunRequest, signal?: AbortSignal) => {
  if (request.finish?.status === RunStatus.LOST)
    throw invalid("finish.status", "is LOST, which only the server says: give SUCCEEDED, FAILED or CANCELED");
  const body = bodyOf("run.finish", request.finish);
  return write(
    deps,
    caller,
    specOf(request, "run.report", { whenArchived: true }),
    (a) => plan(a, resolve(a, request.run, ["run"], "run"), body),
    signal,
  );
};
