/** Steps of a plan: in order, each after what it needs; a step is done when a child run of that name succeeded. */
import type { Run } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import { isObject, type Json } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { type Admission } from "./admission.ts";
import { checkName, invalid } from "./body.ts";
import { checkCount } from "./limits.ts";

const MAX_STEPS = 256;

/** Steps have names of their own and need earlier ones only, so that they cannot wait for each other. */
export function checkSteps(steps: Run["steps"]): void {
  checkCount("plan.run.steps", steps.length, MAX_STEPS);
  const earlier = new Set<string>();
  for (const { name, needs } of steps) {
    checkName(name);
    if (earlier.has(name)) throw invalid("plan.run.steps.name", `is ${name}, as of another step`);
    const unknown = needs.find((need) => !earlier.has(need));
    if (unknown !== undefined)
      throw new Fault("STEP_UNKNOWN", `step ${name} needs ${unknown.slice(0, 128)}, which is no step before it`, {
        metadata: { step: name },
      });
    earlier.add(name);
  }
}

interface Step {
  readonly name: string;
  readonly needs: readonly string[];
}

function stepsOf(reader: ViewReader, run: RecordId): Step[] {
  const steps = reader.record(run)?.record.body["steps"];
  return (Array.isArray(steps) ? (steps as readonly Json[]) : []).filter(isObject).map((s) => ({
    name: s["name"] as string,
    needs: Array.isArray(s["needs"]) ? (s["needs"] as readonly string[]) : [],
  }));
}

function doneSteps(reader: ViewReader, run: RecordId): Set<string> {
  const done = new Set<string>();
  for (const { id, rel } of reader.dependents(run)) {
    if (rel !== "parent" || reader.get("run", id)?.value.status !== "succeeded") continue;
    const step = reader.record(id)?.record.body["step"];
    if (typeof step === "string") done.add(step);
  }
  return done;
}

/** A child runs below a running parent, as one of its steps whose needs are done. */
export function checkParent(a: Admission, parent: RecordId | undefined, step: string | undefined): void {
  if (parent === undefined) {
    if (step === undefined) return;
    throw new Fault("STEP_UNKNOWN", "a step belongs to a parent run: name the parent, or leave the step empty");
  }
  const status = a.reader.get("run", parent)?.value.status;
  if (status !== "running")
    throw new Fault("PARENT_NOT_RUNNING", `the parent run is ${status ?? "unknown"}: start it first`, {
      metadata: { run: parent, status: status ?? "" },
    });
  if (step === undefined) return;
  const found = stepsOf(a.reader, parent).find((s) => s.name === step);
  if (found === undefined)
    throw new Fault("STEP_UNKNOWN", `the parent's plan has no step ${step.slice(0, 128)}`, {
      metadata: { run: parent },
    });
  if (found.needs.length === 0) return;
  const done = doneSteps(a.reader, parent);
  const missing = found.needs.filter((need) => !done.has(need));
  if (missing.length > 0)
    throw new Fault("STEP_NOT_READY", `step ${step} waits for ${missing.join(", ")}`, {
      metadata: { run: parent, step },
    });
}
