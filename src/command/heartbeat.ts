/** A run says that it lives, and hears whether somebody asked it to end. Nothing is recorded. */
import { create } from "@bufbuild/protobuf";
import {
  type HeartbeatRequest,
  type HeartbeatResponse,
  HeartbeatResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Caller } from "../identity/caller.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { checkOwnRun, resolve } from "./admission.ts";
import { ask } from "./ask.ts";
import type { Deps } from "./context.ts";
import { signalsOf } from "./run-signals.ts";

export const heartbeat = (deps: Deps, caller: Caller, request: HeartbeatRequest): Promise<HeartbeatResponse> =>
  ask(deps, caller, { project: request.project, permission: "run.report" }, (reader, project, nowMs) => {
    const a = { reader, caller, project, requestId: "", nowMs };
    const run = resolve(a, request.run, ["run"], "run");
    checkOwnRun(a, run);
    assertRunning(deps, reader, run);
    return create(HeartbeatResponseSchema, { cancelRequested: signalsOf(deps.log).hear(run, nowMs) });
  });

/** Throws RUN_NOT_RUNNING. */
export function assertRunning(deps: Deps, reader: ViewReader, run: RecordId): void {
  const status = reader.get("run", run)?.value.status;
  if (status === "running") return;
  signalsOf(deps.log).forget(run);
  throw new Fault(
    "RUN_NOT_RUNNING",
    `the run is ${status ?? "unknown"}: only a running run lives and can be asked to end`,
    {
      metadata: { run, status: status ?? "" },
    },
  );
}
