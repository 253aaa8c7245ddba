/** Asks a run to end. It hears so at its next heartbeat and then says itself how it ended. */
import { create } from "@bufbuild/protobuf";
import {
  type CancelRunRequest,
  type CancelRunResponse,
  CancelRunResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Caller } from "../identity/caller.ts";
import { resolve } from "./admission.ts";
import { ask } from "./ask.ts";
import type { Deps } from "./context.ts";
import { assertRunning } from "./heartbeat.ts";
import { signalsOf } from "./run-signals.ts";

export const cancelRun = (deps: Deps, caller: Caller, request: CancelRunRequest): Promise<CancelRunResponse> =>
  ask(deps, caller, { project: request.project, permission: "run.cancel" }, (reader, project, nowMs) => {
    const run = resolve({ reader, caller, project, requestId: "", nowMs }, request.run, ["run"], "run");
    assertRunning(deps, reader, run);
    signalsOf(deps.log).cancel(run);
    return create(CancelRunResponseSchema);
  });
