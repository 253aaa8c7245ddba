/** Reports of runs as one call, and as a stream that acknowledges as it goes. */
import { create } from "@bufbuild/protobuf";
import {
  type AppendRunEventsRequest,
  type AppendRunEventsResponse,
  AppendRunEventsResponseSchema,
  type BatchAppendRunEventsRequest,
  BatchAppendRunEventsRequestSchema,
  type BatchAppendRunEventsResponse,
  BatchAppendRunEventsResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { batchAppendRunEvents } from "../command/append-run-events.ts";
import type { Deps } from "../command/context.ts";
import type { Caller } from "../identity/caller.ts";
import { Fault } from "../std/faults.ts";

export async function batchAppend(
  deps: Deps,
  caller: Caller,
  request: BatchAppendRunEventsRequest,
  signal?: AbortSignal,
): Promise<BatchAppendRunEventsResponse> {
  const { throughSeq, written } = await batchAppendRunEvents(deps, caller, request, signal);
  const receipt = written.receipt(written.plan.primary ?? written.plan.existing?.id);
  return create(BatchAppendRunEventsResponseSchema, {
    records: [...written.ids],
    throughSeq,
    ...(receipt === undefined ? {} : { receipt }),
  });
}

/** Each message is acknowledged once it is recorded, so at most one is in flight and the client's window is the back-pressure. */
export async function* appendRunEvents(
  deps: Deps,
  caller: Caller,
  requests: AsyncIterable<AppendRunEventsRequest>,
  signal?: AbortSignal,
): AsyncGenerator<AppendRunEventsResponse> {
  let first: AppendRunEventsRequest | undefined;
  for await (const message of requests) {
    first ??= message;
    const { batch } = message;
    if (batch === undefined)
      throw new Fault("REQUEST_INVALID", "A message of the stream has no batch.", {
        fields: [{ description: "is missing", field: "batch" }],
      });
    const request = create(BatchAppendRunEventsRequestSchema, {
      batches: [batch],
      project: message.project === "" ? first.project : message.project,
      run: message.run === "" ? first.run : message.run,
    });
    const { receipt, throughSeq } = await batchAppend(deps, caller, request, signal);
    yield create(AppendRunEventsResponseSchema, { throughSeq, ...(receipt === undefined ? {} : { receipt }) });
  }
}
